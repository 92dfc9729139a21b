use std::fmt;
use std::io;

/// Why a GGUF file was refused: what failed, where, and the value that it has.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The file system refused. Who opens the file knows its path.
    #[error("cannot be opened: {source}")]
    Open {
        /// Why.
        source: io::Error,
    },
    /// A folder, a pipe or a device.
    #[error("not a regular file")]
    NotAFile,
    /// The file system failed in the middle.
    #[error("cannot read {what} at byte {at}: {source}")]
    Read {
        /// What was to be read.
        what: String,
        /// Its offset in the file.
        at: u64,
        /// Why.
        source: io::Error,
    },
    /// Another kind of file.
    #[error("not a GGUF file: it begins with {found:02x?} instead of \"GGUF\"")]
    Magic {
        /// The first four bytes.
        found: [u8; 4],
    },
    /// A version that this reader does not know.
    #[error("GGUF version {found} is not supported (2 and 3 are){hint}")]
    Version {
        /// The version in the file.
        found: u32,
        /// What it may be instead.
        hint: &'static str,
    },
    /// A length or count reaches beyond the file.
    #[error(
        "the file is cut short, or lies about a length: {what} needs {need} bytes from byte {at}, but the file has {file_bytes}"
    )]
    CutShort {
        /// What was to be read.
        what: String,
        /// Bytes it needs at least.
        need: u64,
        /// Its offset in the file.
        at: u64,
        /// Size of the file.
        file_bytes: u64,
    },
    /// A number is beyond what any model has.
    #[error("{what} is {value}: more than the limit of {limit}")]
    TooLarge {
        /// What the number counts.
        what: String,
        /// The number in the file.
        value: u64,
        /// The most that is accepted.
        limit: u64,
    },
    /// Text is not UTF-8.
    #[error("{what} at byte {at} is not UTF-8")]
    NotUtf8 {
        /// Which text.
        what: String,
        /// Its offset in the file.
        at: u64,
    },
    /// A key or a name without text.
    #[error("{what} is empty")]
    Empty {
        /// Which text.
        what: String,
    },
    /// A value type that GGUF does not have.
    #[error("{what} has the unknown type {found}")]
    ValueType {
        /// Which value.
        what: String,
        /// The type's number in the file.
        found: u32,
    },
    /// A boolean that is neither 0 nor 1.
    #[error("{what} is a boolean of value {found} (0 and 1 are valid)")]
    Bool {
        /// Which value.
        what: String,
        /// The byte in the file.
        found: u8,
    },
    /// Arrays in arrays in arrays.
    #[error("{what} nests arrays more than {limit} deep")]
    Nested {
        /// Which value.
        what: String,
        /// The most that is accepted.
        limit: u32,
    },
    /// One metadata key twice.
    #[error("metadata key {key:?} appears twice")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A key that is needed is not there.
    #[error("metadata key {key:?} is missing")]
    MissingKey {
        /// The key.
        key: String,
    },
    /// A value has another type than its key calls for.
    #[error("metadata key {key:?} is {found}, but must be {expected}")]
    WrongType {
        /// The key.
        key: String,
        /// The type it should have.
        expected: &'static str,
        /// The type and value it has.
        found: String,
    },
    /// `general.alignment` is unusable.
    #[error("general.alignment is {value}: it must be a power of two from 8 to 1048576")]
    Alignment {
        /// The value in the file.
        value: u64,
    },
    /// A tensor type that ggml does not have.
    #[error("tensor {name:?} has the unknown type {found}")]
    TensorType {
        /// The tensor.
        name: String,
        /// The type's number in the file.
        found: u32,
    },
    /// A tensor's shape is impossible.
    #[error("tensor {name:?} has the impossible shape {dims:?}: {why}")]
    Shape {
        /// The tensor.
        name: String,
        /// Its dimensions, the row length first.
        dims: Vec<u64>,
        /// What is impossible.
        why: &'static str,
    },
    /// A tensor of no or too many dimensions.
    #[error("tensor {name:?} has {found} dimensions (1 to 4 are valid)")]
    Dimensions {
        /// The tensor.
        name: String,
        /// The count in the file.
        found: u32,
    },
    /// Quantised rows hold whole blocks.
    #[error("tensor {name:?} has rows of {row} values: {ty} needs a multiple of {block}")]
    Row {
        /// The tensor.
        name: String,
        /// Values in a row.
        row: u64,
        /// Its type.
        ty: &'static str,
        /// Values in a block of that type.
        block: u64,
    },
    /// A tensor's data does not begin where it may.
    #[error("tensor {name:?} has the offset {offset}: not a multiple of the alignment {alignment}")]
    Unaligned {
        /// The tensor.
        name: String,
        /// Its offset from the beginning of the data.
        offset: u64,
        /// The file's alignment.
        alignment: u64,
    },
    /// A tensor's data ends beyond the file.
    #[error(
        "tensor {name:?} lies outside the file: {bytes} bytes at data offset {offset}, but the file ends at {available} (cut short, or a wrong offset)"
    )]
    OutOfFile {
        /// The tensor.
        name: String,
        /// Its offset from the beginning of the data.
        offset: u64,
        /// Its size.
        bytes: u64,
        /// Bytes of data in the file.
        available: u64,
    },
    /// Two tensors share bytes.
    #[error("tensors {first:?} and {second:?} overlap at data offset {offset}")]
    Overlap {
        /// The one that begins first.
        first: String,
        /// The one that begins inside it.
        second: String,
        /// Where the second begins, from the beginning of the data.
        offset: u64,
    },
    /// One tensor name twice.
    #[error("tensor {name:?} appears twice")]
    DuplicateTensor {
        /// The name.
        name: String,
    },
}

/// What is being read, for messages; made into text only when something fails.
#[derive(Clone, Copy)]
pub(super) enum Field<'a> {
    Preamble,
    Key(u64),
    Value(&'a str),
    TensorName(u64),
    TensorInfo(&'a str),
    TensorCount,
    MetadataCount,
}

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preamble => write!(f, "the preamble"),
            Self::Key(i) => write!(f, "metadata key number {i}"),
            Self::Value(key) => write!(f, "the value of {key:?}"),
            Self::TensorName(i) => write!(f, "the name of tensor number {i}"),
            Self::TensorInfo(name) => write!(f, "the description of tensor {name:?}"),
            Self::TensorCount => write!(f, "the tensor count"),
            Self::MetadataCount => write!(f, "the metadata count"),
        }
    }
}
