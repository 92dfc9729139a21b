use std::pin::{Pin, pin};
use std::task::Context;

use futures::future::{join, join_all};
use tokio::io::{AsyncRead as _, AsyncWrite as _, DuplexStream, ReadBuf};

use super::*;

const A: &str = "secret a of at least 32 bytes, a text";
const B: &str = "secret b of at least 32 bytes, a text";
const C: &str = "secret c of at least 32 bytes, a text";

/// tokio's pipe as a substream.
struct Pipe(DuplexStream);

impl AsyncRead for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        pin!(&mut self.0).poll_read(cx, &mut buf).map_ok(|()| buf.filled().len())
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        pin!(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.0).poll_shutdown(cx)
    }
}

fn pipe() -> (Pipe, Pipe) {
    let (left, right) = tokio::io::duplex(1024);
    (Pipe(left), Pipe(right))
}

fn secrets(lines: &[&str]) -> Secrets {
    Secrets::parse(lines.join("\n").as_bytes(), "test").unwrap()
}

fn peers() -> [PeerId; 2] {
    [PeerId::random(), PeerId::random()]
}

/// What both sides say in the end.
async fn meet(dialer: &Secrets, listener: &Secrets) -> (Result<(), String>, Result<(), String>) {
    let [d, l] = peers();
    let (mut left, mut right) = pipe();
    let (dialer, listener) = (
        Pair { secrets: dialer, dialer: d, listener: l },
        Pair { secrets: listener, dialer: d, listener: l },
    );
    let (dialled, listened) = join(async { (dialer.dial(&mut left).await, drop(left)).0 }, async {
        (listener.listen(&mut right).await, drop(right)).0
    })
    .await;
    (dialled.map_err(|error| error.to_string()), listened.map_err(|error| error.to_string()))
}

#[tokio::test]
async fn one_secret_in_common_is_enough_and_necessary() {
    let table: &[(&[&str], &[&str], bool)] = &[
        (&[A], &[A], true),
        (&[A], &[B], false),
        // Rotation: every step beside the one before it, either way round.
        (&[A, B], &[A], true),
        (&[A], &[A, B], true),
        (&[B, A], &[A, B], true),
        (&[B, A], &[A], true),
        (&[A], &[B, A], true),
        (&[B], &[B, A], true),
        (&[B, A], &[B], true),
        (&[A, B], &[C], false),
        (&[C], &[A, B], false),
    ];
    for (dialer, listener, members) in table {
        let (dialled, listened) = meet(&secrets(dialer), &secrets(listener)).await;
        let said = format!("{dialer:?} dials {listener:?}: {dialled:?} {listened:?}");
        assert_eq!((dialled.is_ok(), listened.is_ok()), (*members, *members), "{said}");
        let told = |result: &Result<(), String>| {
            result.as_ref().is_err_and(|error| error.contains("another cluster secret"))
        };
        assert!(*members || (told(&dialled) && told(&listened)), "{said}");
    }
}

/// What a listener says to someone who sends `bytes` and then ends the stream, or does not.
async fn hears(bytes: &[u8], ends: bool) -> (MembershipError, Vec<u8>) {
    let [dialer, listener] = peers();
    let (mut left, mut right) = pipe();
    let secrets = secrets(&[A]);
    let pair = Pair { secrets: &secrets, dialer, listener };
    left.write_all(bytes).await.unwrap();
    if ends {
        left.close().await.unwrap();
    }
    let result =
        timeout(PROOF_TIMEOUT, pair.listen(&mut right)).await.unwrap_or(Err(MembershipError::Timeout));
    drop(right);
    let mut heard = Vec::new();
    left.read_to_end(&mut heard).await.unwrap();
    (result.unwrap_err(), heard)
}

#[tokio::test]
async fn strangers_hear_a_nonce_at_most() {
    let hello = [&MAGIC[..], &[7; NONCE_BYTES]].concat();
    let proofs = |count: u8, bytes: usize| [&hello[..], &[count], &vec![9; bytes]].concat();
    type Is = fn(&MembershipError) -> bool;
    // What is sent, whether the stream ends then, whether our nonce has been heard, why it is refused.
    let table: Vec<(Vec<u8>, bool, bool, Is)> = vec![
        (vec![], true, false, |e| matches!(e, MembershipError::Ended(_))),
        (vec![], false, false, |e| matches!(e, MembershipError::Timeout)),
        (b"\x13/multistream/1.0.0\n".to_vec(), false, false, |e| matches!(e, MembershipError::Stranger)),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), false, false, |e| matches!(e, MembershipError::Stranger)),
        (MAGIC[..3].to_vec(), true, false, |e| matches!(e, MembershipError::Ended(_))),
        (hello[..20].to_vec(), false, false, |e| matches!(e, MembershipError::Timeout)),
        (hello.clone(), true, true, |e| matches!(e, MembershipError::Ended(_))),
        (proofs(1, 31), true, true, |e| matches!(e, MembershipError::Ended(_))),
        (proofs(2, 32), false, true, |e| matches!(e, MembershipError::Timeout)),
        (proofs(0, 0), false, true, |e| matches!(e, MembershipError::OtherSecret)),
        (proofs(1, 32), false, true, |e| matches!(e, MembershipError::OtherSecret)),
        (proofs(2, 64), false, true, |e| matches!(e, MembershipError::OtherSecret)),
        (proofs(3, 96), false, true, |e| matches!(e, MembershipError::Count(3))),
        (proofs(255, 900), false, true, |e| matches!(e, MembershipError::Count(255))),
    ];
    let heard = join_all(table.iter().map(|(bytes, ends, ..)| hears(bytes, *ends))).await;
    for ((bytes, _, greeted, is), (error, heard)) in table.into_iter().zip(heard) {
        let row = String::from_utf8_lossy(&bytes).into_owned();
        assert!(is(&error), "{row:?}: {error}");
        // Beside the nonce one zero, the refusal, and never a proof.
        let least = if greeted { MAGIC.len() + NONCE_BYTES } else { 0 };
        assert!((least..=least + 1).contains(&heard.len()), "{row:?}: heard {heard:?}");
    }
}

/// Nobody in between, and nobody later, can use what a member said.
#[tokio::test]
async fn a_proof_is_good_once_one_way_and_between_two_peers() {
    let held = secrets(&[A]);
    let [d, l] = peers();
    let pair = Pair { secrets: &held, dialer: d, listener: l };
    let (ours, theirs) = ([1; NONCE_BYTES], [2; NONCE_BYTES]);
    let proof = held.prove(&pair.message(Endpoint::Dialer, &ours, &theirs)).next().unwrap();
    let other = PeerId::random();
    let messages = [
        ("reflected", pair.message(Endpoint::Listener, &ours, &theirs)),
        ("the nonces swapped", pair.message(Endpoint::Dialer, &theirs, &ours)),
        ("replayed to a new nonce", pair.message(Endpoint::Dialer, &ours, &[3; NONCE_BYTES])),
        (
            "passed on to another listener",
            Pair { listener: other, ..pair }.message(Endpoint::Dialer, &ours, &theirs),
        ),
        (
            "passed on for another dialer",
            Pair { secrets: &held, dialer: other, listener: l }.message(Endpoint::Dialer, &ours, &theirs),
        ),
        (
            "the peers swapped",
            Pair { secrets: &held, dialer: l, listener: d }.message(Endpoint::Dialer, &ours, &theirs),
        ),
    ];
    for (what, message) in messages {
        assert!(!held.accept(&message, &proof), "{what}");
    }

    // A listener that knows no secret sends the dialer's own words back.
    let (mut left, mut right) = pipe();
    let mirror = async {
        let mut bytes = [0; 256];
        loop {
            match right.read(&mut bytes).await {
                Ok(0) | Err(_) => break,
                Ok(n) => right.write_all(&bytes[..n]).await.unwrap(),
            }
        }
    };
    let pair = Pair { secrets: &held, dialer: d, listener: l };
    let (dialled, ()) = join(async { (pair.dial(&mut left).await, drop(left)).0 }, mirror).await;
    assert!(matches!(dialled, Err(MembershipError::OtherSecret)), "{dialled:?}");
}

#[tokio::test]
async fn a_dialer_tells_an_open_cluster_from_a_silent_one() {
    let held = secrets(&[A]);
    let [d, l] = peers();
    for (answer, is) in [
        (&b""[..], (|e| matches!(e, MembershipError::Ended(_))) as fn(&MembershipError) -> bool),
        (b"\x13/multistream/1.0.0\n", |e| matches!(e, MembershipError::Stranger)),
    ] {
        let (mut left, mut right) = pipe();
        right.write_all(answer).await.unwrap();
        right.close().await.unwrap();
        let error = Pair { secrets: &held, dialer: d, listener: l }.dial(&mut left).await.unwrap_err();
        assert!(is(&error), "{error}");
    }
}
