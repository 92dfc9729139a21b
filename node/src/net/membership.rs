//! Membership, proved on the first substream of every new connection, before the swarm sees the connection.
//!
//! ```text
//!  dialer                                                  listener
//!    │ magic, nonce ─────────────────────────────────────────▶ │
//!    │ ◀───────────────────────────────────────── magic, nonce │
//!    │ count, HMAC(secret, "dialer" ‖ both ids ‖ both nonces)… ▶ │  one for each secret that a side holds; one that fits is enough
//!    │ ◀ count, HMAC(secret, "listener" ‖ …)…                   │  none: refused
//! ```
//! The ids are those that Noise or TLS has proved, so a proof is of no use to anybody in between; each side's label and
//! nonces make it useless a second time and in the other direction. The listener speaks of the secret only to who knows
//! it. Until then a peer has one substream, reads nothing but a nonce, and has three seconds.

use std::future::{Future, poll_fn};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::PeerId;
use libp2p::core::muxing::{StreamMuxerBox, StreamMuxerExt};
use libp2p::core::{ConnectedPoint, Endpoint};
use thiserror::Error;
use tokio::time::timeout;

use super::secret::{MAX_SECRETS, PROOF_BYTES, Secrets};

/// From the first byte of a proof to the last; for who dialled us, from the first byte of the connection.
pub(super) const PROOF_TIMEOUT: Duration = Duration::from_secs(3);
/// How long one who is refused may take to hear it.
const LINGER: Duration = Duration::from_millis(300);
/// The first byte is no length that multistream-select knows: a peer without the gate fails at once.
const MAGIC: [u8; 8] = *b"\0shrdcl1";
const NONCE_BYTES: usize = 32;
/// Refusals are told when they are 1, 2, 4, 8 …: a stranger that insists does not fill the log.
const TOLD_EVERY: u64 = 1024;

type Nonce = [u8; NONCE_BYTES];

/// Why a peer is no member.
#[derive(Debug, Error)]
pub(super) enum MembershipError {
    /// It speaks something else.
    #[error(
        "membership failed: the peer does not prove it. It is no member, or its cluster is open: it needs the --cluster-secret-file of this one"
    )]
    Stranger,
    /// None of its proofs fits.
    #[error(
        "membership failed: the peer holds another cluster secret than we do: compare the --cluster-secret-file of both"
    )]
    OtherSecret,
    /// More proofs than there can be secrets.
    #[error("membership failed: the peer sends {0} proofs, at most {MAX_SECRETS} are taken")]
    Count(u8),
    /// It opened a second substream.
    #[error("membership failed: the peer goes on before it has proved it")]
    Eager,
    /// It was silent.
    #[error("membership failed: the peer did not prove it within {PROOF_TIMEOUT:?}; its cluster may be open")]
    Timeout,
    /// The connection ended.
    #[error(
        "membership failed: the peer ended the connection instead of proving it ({0}). It may hold another cluster secret, or none"
    )]
    Ended(#[source] io::Error),
    /// The system gives no random bytes.
    #[error("membership failed: no random bytes ({0})")]
    Nonce(getrandom::Error),
}

/// What stands between a connection and the swarm.
pub(super) struct Gate {
    me: PeerId,
    secrets: Secrets,
    refused: AtomicU64,
}

impl Gate {
    pub(super) fn new(me: PeerId, secrets: Secrets) -> Self {
        Self { me, secrets, refused: AtomicU64::new(0) }
    }

    /// Hands the connection on when both sides are members.
    pub(super) async fn pass(
        &self,
        peer: PeerId,
        mut muxer: StreamMuxerBox,
        point: &ConnectedPoint,
    ) -> Result<(PeerId, StreamMuxerBox), MembershipError> {
        let (we, from) = match point {
            ConnectedPoint::Dialer { address, role_override, .. } => (*role_override, address),
            ConnectedPoint::Listener { send_back_addr, .. } => (Endpoint::Listener, send_back_addr),
        };
        let proved = timeout(PROOF_TIMEOUT, self.prove(peer, &mut muxer, we)).await;
        match proved.unwrap_or(Err(MembershipError::Timeout)) {
            Ok(()) => Ok((peer, muxer)),
            Err(error) => {
                let refused = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
                if we.is_listener() && (refused.is_power_of_two() || refused.is_multiple_of(TOLD_EVERY)) {
                    tracing::warn!(%peer, %from, refused, "refused: {error}");
                } else {
                    tracing::debug!(%peer, %from, refused, "refused: {error}");
                }
                Err(error)
            }
        }
    }

    async fn prove(
        &self,
        peer: PeerId,
        muxer: &mut StreamMuxerBox,
        we: Endpoint,
    ) -> Result<(), MembershipError> {
        let ended = |error| MembershipError::Ended(io::Error::other(error));
        let mut stream = poll_fn(|cx| {
            // A substream is opened or accepted only while the connection itself makes progress.
            match we {
                Endpoint::Dialer => {
                    if let Poll::Ready(Err(error)) = muxer.poll_unpin(cx) {
                        return Poll::Ready(Err(error));
                    }
                    muxer.poll_outbound_unpin(cx)
                }
                Endpoint::Listener => muxer.poll_inbound_unpin(cx),
            }
        })
        .await
        .map_err(ended)?;
        let (dialer, listener) = if we.is_dialer() { (self.me, peer) } else { (peer, self.me) };
        let pair = Pair { secrets: &self.secrets, dialer, listener };
        let mut talk = Box::pin(async move {
            match we {
                Endpoint::Dialer => pair.dial(&mut stream).await,
                Endpoint::Listener => pair.listen(&mut stream).await,
            }
        });
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(result) = talk.as_mut().poll(cx) {
                    return Poll::Ready(result);
                }
                let failed = match we {
                    // The listener may already use the connection while its proof is on the way.
                    Endpoint::Dialer => match muxer.poll_unpin(cx) {
                        Poll::Ready(Ok(_)) => continue,
                        Poll::Ready(Err(error)) => ended(error),
                        Poll::Pending => return Poll::Pending,
                    },
                    Endpoint::Listener => match muxer.poll_inbound_unpin(cx) {
                        Poll::Ready(Ok(_)) => MembershipError::Eager,
                        Poll::Ready(Err(error)) => ended(error),
                        Poll::Pending => return Poll::Pending,
                    },
                };
                // What came before the end counts.
                return match talk.as_mut().poll(cx) {
                    Poll::Ready(result) => Poll::Ready(result),
                    Poll::Pending => Poll::Ready(Err(failed)),
                };
            }
        })
        .await
    }
}

/// Who proves what to whom.
struct Pair<'a> {
    secrets: &'a Secrets,
    dialer: PeerId,
    listener: PeerId,
}

impl Pair<'_> {
    async fn dial<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: &mut S) -> Result<(), MembershipError> {
        let ours = nonce()?;
        say_hello(stream, &ours).await?;
        let theirs = hear_hello(stream).await?;
        self.say_proofs(stream, &self.message(Endpoint::Dialer, &ours, &theirs)).await?;
        if !self.hear_proofs(stream, &self.message(Endpoint::Listener, &ours, &theirs)).await? {
            return Err(MembershipError::OtherSecret);
        }
        // It has proved itself: that it ends the stream before we do is no matter.
        let _ = stream.close().await;
        Ok(())
    }

    async fn listen<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: &mut S) -> Result<(), MembershipError> {
        let theirs = hear_hello(stream).await?;
        let ours = nonce()?;
        say_hello(stream, &ours).await?;
        if self.hear_proofs(stream, &self.message(Endpoint::Dialer, &theirs, &ours)).await? {
            self.say_proofs(stream, &self.message(Endpoint::Listener, &theirs, &ours)).await?;
            return stream.close().await.map_err(MembershipError::Ended);
        }
        // Dropped at once, the connection would end before the peer has read why.
        let refusal = async {
            stream.write_all(&[0]).await?;
            stream.close().await?;
            stream.read(&mut [0]).await
        };
        let _ = timeout(LINGER, refusal).await;
        Err(MembershipError::OtherSecret)
    }

    /// What a side proves: every part has a fixed place or its length.
    fn message(&self, by: Endpoint, dialer_nonce: &Nonce, listener_nonce: &Nonce) -> Vec<u8> {
        let mut message = b"shardcluster member 1 ".to_vec();
        message.extend_from_slice(if by.is_dialer() { b"dialer\n" } else { b"listener\n" });
        for peer in [self.dialer, self.listener] {
            let id = peer.to_bytes();
            message.extend_from_slice(&(id.len() as u64).to_le_bytes());
            message.extend_from_slice(&id);
        }
        message.extend_from_slice(dialer_nonce);
        message.extend_from_slice(listener_nonce);
        message
    }

    async fn say_proofs<S: AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        message: &[u8],
    ) -> Result<(), MembershipError> {
        let mut bytes = vec![0];
        for proof in self.secrets.prove(message) {
            bytes[0] += 1;
            bytes.extend_from_slice(&proof);
        }
        send(stream, &bytes).await
    }

    /// Whether one of the peer's proofs fits. None at all is a refusal.
    async fn hear_proofs<S: AsyncRead + Unpin>(
        &self,
        stream: &mut S,
        message: &[u8],
    ) -> Result<bool, MembershipError> {
        let mut count = [0];
        stream.read_exact(&mut count).await.map_err(MembershipError::Ended)?;
        if usize::from(count[0]) > MAX_SECRETS {
            return Err(MembershipError::Count(count[0]));
        }
        let mut any = false;
        for _ in 0..count[0] {
            let mut proof = [0; PROOF_BYTES];
            stream.read_exact(&mut proof).await.map_err(MembershipError::Ended)?;
            any |= self.secrets.accept(message, &proof);
        }
        Ok(any)
    }
}

fn nonce() -> Result<Nonce, MembershipError> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(MembershipError::Nonce)?;
    Ok(nonce)
}

async fn say_hello<S: AsyncWrite + Unpin>(stream: &mut S, nonce: &Nonce) -> Result<(), MembershipError> {
    send(stream, &[&MAGIC[..], nonce].concat()).await
}

async fn hear_hello<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Nonce, MembershipError> {
    let mut magic = [0; MAGIC.len()];
    stream.read_exact(&mut magic).await.map_err(MembershipError::Ended)?;
    if magic != MAGIC {
        return Err(MembershipError::Stranger);
    }
    let mut nonce = [0; NONCE_BYTES];
    stream.read_exact(&mut nonce).await.map_err(MembershipError::Ended)?;
    Ok(nonce)
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> Result<(), MembershipError> {
    stream.write_all(bytes).await.map_err(MembershipError::Ended)?;
    stream.flush().await.map_err(MembershipError::Ended)
}

#[cfg(test)]
mod tests;
