//! Event files of TensorBoard: records of a length, a message in the encoding of Protocol Buffers, and check sums.
//!
//! A record is `length: u64, sum of the length: u32, message, sum of the message: u32`, little-endian. Sums are
//! CRC-32C, rotated and shifted by a constant (tensorflow/core/lib/hash/crc32c.h). Messages are those of
//! tensorflow/core/util/event.proto and framework/summary.proto.

use super::tags;
use crate::view::Skipped;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// CRC-32C (Castagnoli), reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;
const TABLE: [u32; 256] = table();
/// Seconds since 1970 of events that tell none: readers want a number.
const NO_TIME: f64 = 0.0;

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut sum, mut bit) = (byte as u32, 0);
        while bit < 8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ POLYNOMIAL } else { sum >> 1 };
            bit += 1;
        }
        table[byte] = sum;
        byte += 1;
    }
    table
}

fn crc32c(bytes: &[u8]) -> u32 {
    let step = |sum: u32, byte: &u8| TABLE[usize::from(sum as u8 ^ byte)] ^ (sum >> 8);
    !bytes.iter().fold(!0, step)
}

/// A sum as records hold it: not that of its own bytes.
fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// A message that grows.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// The number and the kind of a field: 0 a variable number, 1 eight bytes, 2 bytes with a length, 5 four bytes.
    fn key(&mut self, field: u64, kind: u64) {
        self.number(field << 3 | kind);
    }

    fn whole(mut self, field: u64, value: u64) -> Self {
        self.key(field, 0);
        self.number(value);
        self
    }

    fn double(mut self, field: u64, value: f64) -> Self {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn float(mut self, field: u64, value: f32) -> Self {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn bytes(mut self, field: u64, bytes: &[u8]) -> Self {
        self.key(field, 2);
        self.number(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    fn message(self, field: u64, message: Message) -> Self {
        self.bytes(field, &message.0)
    }
}

/// `Summary.Value` of a number.
fn number(tag: &str, value: f64) -> Message {
    Message::default().bytes(1, tag.as_bytes()).float(2, value as f32)
}

/// `Summary.Value` of a text: a tensor of strings, marked for the plugin that shows texts.
fn text(tag: &str, text: &str) -> Message {
    /// `DT_STRING` of `DataType`.
    const STRING: u64 = 7;
    let one = Message::default().message(2, Message::default().whole(1, 1));
    let tensor = Message::default().whole(1, STRING).message(2, one).bytes(8, text.as_bytes());
    let plugin = Message::default().message(1, Message::default().bytes(1, b"text"));
    Message::default().bytes(1, tag.as_bytes()).message(8, tensor).message(9, plugin)
}

fn write_record(message: &Message, to: &mut dyn Write) -> std::io::Result<()> {
    let length = (message.0.len() as u64).to_le_bytes();
    to.write_all(&length)?;
    to.write_all(&masked(&length).to_le_bytes())?;
    to.write_all(&message.0)?;
    to.write_all(&masked(&message.0).to_le_bytes())
}

/// The record that begins a file.
fn first(time: f64) -> Message {
    Message::default().double(1, time).bytes(3, b"brain.Event:2")
}

/// Writes the numbers and texts of a log into `directory`; returns how many there were, and what was left out. Replaces
/// an earlier export.
///
/// # Errors
/// When the log cannot be read, or the directory cannot be written.
pub(crate) fn write(log: &Path, directory: &Path) -> Result<(usize, usize, Skipped)> {
    // Readers look for `tfevents` in the name, and sort by it.
    let path = directory.join("events.out.tfevents.0000000000.anegpt");
    let unwritten = || format!("cannot write {}", path.display());
    std::fs::create_dir_all(directory).with_context(unwritten)?;
    let mut file = BufWriter::new(File::create(&path).with_context(unwritten)?);
    let (mut begun, mut counts) = (false, (0, 0));
    let skipped = tags::read(log, |event| {
        let time = event.time.unwrap_or(NO_TIME);
        if !begun {
            write_record(&first(time), &mut file)?;
            begun = true;
        }
        let numbers = event.numbers.iter().map(|(tag, value)| number(tag, *value));
        let texts = event.texts.iter().map(|(tag, value)| text(tag, &shown(tag, value)));
        let mut summary = Message::default();
        for value in numbers.chain(texts) {
            summary = summary.message(1, value);
        }
        if !summary.0.is_empty() {
            let record = Message::default().double(1, time).whole(2, event.step);
            write_record(&record.message(5, summary), &mut file)?;
        }
        counts = (counts.0 + event.numbers.len(), counts.1 + event.texts.len());
        Ok(())
    })
    .with_context(unwritten)?;
    file.flush().with_context(unwritten)?;
    Ok((counts.0, counts.1, skipped))
}

/// A text as the plugin shows it, which takes it for Markdown: settings keep their lines.
fn shown(tag: &str, text: &str) -> String {
    match tag {
        "start/settings" => text.lines().map(|line| format!("    {line}\n")).collect(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The check value of CRC-32C (RFC 3720, B.4, and every catalogue of CRCs).
    #[test]
    fn sums_are_castagnolis() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    /// Records that TensorBoard 2.21 read back.
    #[test]
    fn records_are_those_that_tensorboard_reads() {
        let record = |message: &Message| {
            let mut bytes = vec![];
            write_record(message, &mut bytes).unwrap();
            hex(&bytes)
        };
        let version =
            "1800000000000000a37f4b220900000040fc54d9411a0d627261696e2e4576656e743a32eced8f9d";
        assert_eq!(record(&first(1.7e9)), version);
        let loss = Message::default().message(1, number("train/loss", 2.5));
        let event = Message::default().double(1, 1.7e9).whole(2, 3).message(5, loss);
        let expected = "200000000000000029eda9500900000040fc54d94110032a130a110a0a747261696e2f6c6f737315\
                        00002040d84e1e33";
        assert_eq!(record(&event), expected);
    }

    #[test]
    fn large_numbers_take_several_bytes() {
        let mut message = Message::default();
        message.number(300);
        assert_eq!(message.0, [0xac, 0x02]);
        let mut message = Message::default();
        message.number(u64::MAX);
        assert_eq!(message.0.len(), 10);
    }
}
