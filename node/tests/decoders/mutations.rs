//! What comes near a file: cut short, bits flipped, lengths at their extremes, spliced with another, flooded. The same
//! each time.

/// Mutations of a file.
const ROUNDS: usize = 500;
/// Where files are no longer than this, they are cut at every byte.
const CUTS: usize = 256;
/// Values that lengths, counts and offsets break at.
const EXTREMES: [u64; 10] =
    [0, 1, 0x7F, 0xFF, 0x7FFF_FFFF, 0xFFFF_FFFF, 1 << 32, 1 << 48, i64::MAX as u64, u64::MAX];
/// What stands for a number in JSON, and need not be one.
const WORDS: [&str; 12] = [
    "-1",
    "0",
    "1e39",
    "-1e400",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "0.1",
    "null",
    "\"\"",
    "[]",
    "[{}]",
];
/// What is repeated to fill a flood: depth, length, and what grows where it is quoted.
const FLOODS: [&[u8]; 12] = [
    b"[",
    b"{\"a\":",
    b"9",
    b"(",
    b"{{",
    b"{%if a%}",
    b"\0",
    b"\xFF",
    b"\x7F",
    b"/dns/a",
    b"<s>",
    b",[1,1e9]",
];
/// Bytes of a flood.
const FLOOD: usize = 32 << 10;

/// Every mutation of every file.
pub fn mutations(files: &[(String, Vec<u8>)]) -> impl Iterator<Item = Vec<u8>> {
    let mut random = Random(files.len() as u64);
    files.iter().flat_map(move |(_, data)| {
        let step = data.len().div_ceil(CUTS).max(1);
        let cuts = (0..data.len()).step_by(step).map(|end| data[..end].to_vec());
        let others: Vec<Vec<u8>> = (0..ROUNDS)
            .map(|_| {
                let mut mutated = data.clone();
                for _ in 0..=random.below(3) {
                    mutate(&mut mutated, files, &mut random);
                }
                mutated
            })
            .collect();
        let floods: Vec<Vec<u8>> = FLOODS
            .iter()
            .map(|unit| {
                let (front, back) = data.split_at(random.below(data.len() + 1));
                [front, &unit.repeat(FLOOD / unit.len()), back].concat()
            })
            .collect();
        cuts.chain(others).chain(floods)
    })
}

fn mutate(data: &mut Vec<u8>, files: &[(String, Vec<u8>)], random: &mut Random) {
    if data.is_empty() {
        return;
    }
    let at = random.below(data.len());
    match random.below(8) {
        0 => data[at] ^= 1 << random.below(8),
        1 => data[at] = random.below(256) as u8,
        2 | 3 => {
            let value = match random.below(3) {
                // Near what it may really be.
                0 => (data.len() as u64).wrapping_add(random.below(5) as u64).wrapping_sub(2),
                _ => EXTREMES[random.below(EXTREMES.len())],
            };
            let width = [1, 2, 4, 8][random.below(4)].min(data.len() - at);
            data[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
        }
        4 => {
            let (_, other) = &files[random.below(files.len())];
            let from = random.below(other.len().max(1));
            data.splice(at.., other.get(from..).unwrap_or_default().iter().copied());
        }
        5 => {
            let end = at + random.below(data.len() - at) + 1;
            let piece = data[at..end].to_vec();
            data.splice(at..at, piece);
        }
        6 => {
            let end = at + random.below(data.len() - at) + 1;
            data.drain(at..end);
        }
        _ => {
            let digits = |from: usize| data[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            if let Some(from) = (at..data.len()).find(|from| data[*from].is_ascii_digit()) {
                let end = from + digits(from);
                data.splice(from..end, WORDS[random.below(WORDS.len())].bytes());
            }
        }
    }
}

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % end as u64) as usize
    }
}
