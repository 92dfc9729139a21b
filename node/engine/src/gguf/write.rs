use super::value::ValueType;
use super::{DEFAULT_ALIGNMENT, GgmlType, GgufError, Metadata, tensor};

const ALIGNMENT_KEY: &str = "general.alignment";

/// Collects metadata and tensors and makes the header of a version 3 file.
///
/// Tensors are laid out in the order in which they are added, each at the next multiple of the alignment.
#[derive(Clone, Debug)]
pub struct HeaderWriter {
    alignment: u64,
    has_alignment: bool,
    metadata_count: u64,
    metadata: Vec<u8>,
    tensor_count: u64,
    infos: Vec<u8>,
    data_end: u64,
    /// Of every tensor, from the beginning of the data.
    offsets: Vec<u64>,
}

/// A finished header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Everything before the tensor data, padding included.
    pub bytes: Vec<u8>,
    /// First byte of every tensor in the order added, from the beginning of the file.
    pub offsets: Vec<u64>,
    /// Size of the whole file: the last tensor is padded too, as llama.cpp writes it.
    pub file_bytes: u64,
}

impl Default for HeaderWriter {
    fn default() -> Self {
        Self::new(DEFAULT_ALIGNMENT)
    }
}

impl HeaderWriter {
    /// A header without entries; `alignment` is a power of two from 8.
    #[must_use]
    pub fn new(alignment: u64) -> Self {
        Self {
            alignment,
            has_alignment: false,
            metadata_count: 0,
            metadata: Vec::new(),
            tensor_count: 0,
            infos: Vec::new(),
            data_end: 0,
            offsets: Vec::new(),
        }
    }

    /// Adds the entry `key` of `from` byte for byte; nothing where it has none.
    pub fn copy(&mut self, from: &Metadata, key: &str) -> &mut Self {
        if let Some(raw) = from.raw(key) {
            self.has_alignment |= key == ALIGNMENT_KEY;
            self.metadata.extend_from_slice(raw);
            self.metadata_count += 1;
        }
        self
    }

    /// Adds an entry.
    pub fn put<T: MetaValue>(&mut self, key: &str, value: T) -> &mut Self {
        self.has_alignment |= key == ALIGNMENT_KEY;
        write_string(key, &mut self.metadata);
        self.metadata.extend_from_slice(&T::TYPE.number().to_le_bytes());
        value.write(&mut self.metadata);
        self.metadata_count += 1;
        self
    }

    /// Adds a tensor of the dimensions `dims`, the row length first.
    pub fn tensor(&mut self, name: &str, dims: &[u64], ty: GgmlType) -> Result<&mut Self, GgufError> {
        let bytes = tensor::data_bytes(name, dims, ty)?;
        let offset = self.data_end.next_multiple_of(self.alignment);
        write_string(name, &mut self.infos);
        self.infos.extend_from_slice(&(dims.len() as u32).to_le_bytes());
        for dim in dims {
            self.infos.extend_from_slice(&dim.to_le_bytes());
        }
        self.infos.extend_from_slice(&ty.number().to_le_bytes());
        self.infos.extend_from_slice(&offset.to_le_bytes());
        self.offsets.push(offset);
        self.data_end = offset.saturating_add(bytes);
        self.tensor_count += 1;
        Ok(self)
    }

    /// The header of what was added.
    #[must_use]
    pub fn finish(mut self) -> Header {
        if self.alignment != DEFAULT_ALIGNMENT && !self.has_alignment {
            let alignment = self.alignment;
            self.put(ALIGNMENT_KEY, alignment as u32);
        }
        let mut bytes = Vec::with_capacity(24 + self.metadata.len() + self.infos.len() + 32);
        bytes.extend_from_slice(b"GGUF");
        bytes.extend_from_slice(&3u32.to_le_bytes());
        bytes.extend_from_slice(&self.tensor_count.to_le_bytes());
        bytes.extend_from_slice(&self.metadata_count.to_le_bytes());
        bytes.extend_from_slice(&self.metadata);
        bytes.extend_from_slice(&self.infos);
        let data_offset = (bytes.len() as u64).next_multiple_of(self.alignment);
        bytes.resize(data_offset as usize, 0);
        let offsets = self.offsets.iter().map(|offset| data_offset + offset).collect();
        Header { bytes, offsets, file_bytes: data_offset + self.data_end.next_multiple_of(self.alignment) }
    }
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// What can be written as a metadata value.
pub trait MetaValue: Copy {
    /// Its type in the file.
    const TYPE: ValueType;
    /// Appends its bytes.
    fn write(&self, out: &mut Vec<u8>);
}

macro_rules! number {
    ($ty:ty, $value_type:ident) => {
        impl MetaValue for $ty {
            const TYPE: ValueType = ValueType::$value_type;
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    };
}
number!(u8, U8);
number!(u16, U16);
number!(u32, U32);
number!(u64, U64);
number!(i32, I32);
number!(f32, F32);

impl MetaValue for bool {
    const TYPE: ValueType = ValueType::Bool;
    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl MetaValue for &str {
    const TYPE: ValueType = ValueType::String;
    fn write(&self, out: &mut Vec<u8>) {
        write_string(self, out);
    }
}

impl<T: MetaValue> MetaValue for &[T] {
    const TYPE: ValueType = ValueType::Array;
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&T::TYPE.number().to_le_bytes());
        out.extend_from_slice(&(self.len() as u64).to_le_bytes());
        for item in *self {
            item.write(out);
        }
    }
}
