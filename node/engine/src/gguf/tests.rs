use std::path::Path;

use super::tensor::TYPES;
use super::*;

fn tiny() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny-tales-q4_0.gguf");
    std::fs::read(path).unwrap()
}

fn read(bytes: &[u8]) -> Result<Gguf, GgufError> {
    Gguf::read(bytes, bytes.len() as u64)
}

#[test]
fn the_table_of_types_is_in_the_order_of_the_enum() {
    for (i, row) in TYPES.iter().enumerate() {
        assert_eq!(row.0 as usize, i);
        assert_eq!(GgmlType::from_number(row.1), Some(row.0));
    }
}

#[test]
fn a_copied_header_is_the_same_header() {
    let bytes = tiny();
    let gguf = read(&bytes).unwrap();
    let mut writer = HeaderWriter::default();
    for key in gguf.metadata.keys() {
        writer.copy(&gguf.metadata, key);
    }
    for tensor in &gguf.tensors {
        writer.tensor(&tensor.name, &tensor.dims, tensor.ty).unwrap();
    }
    let header = writer.finish();
    assert_eq!(header.bytes, bytes[..gguf.data_offset as usize]);
    assert_eq!(header.offsets, gguf.tensors.iter().map(|t| t.offset).collect::<Vec<_>>());
    assert_eq!(header.file_bytes, bytes.len() as u64);
}
