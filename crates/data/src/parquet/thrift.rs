//! Thrift's compact protocol, as far as Parquet's metadata uses it (thrift.apache.org, "Compact protocol").
//!
//! A structure is a list of fields, each with its number and kind, closed by a zero byte. What is not
//! asked for is skipped, so files of later versions can be read.

use std::fmt;

/// Structures within structures, at most.
const DEPTH: u32 = 32;

/// Why bytes are not a structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// They end within it.
    Short,
    /// They say something that cannot be.
    Damaged,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Short => "the metadata is cut short",
            Fault::Damaged => "the metadata is damaged",
        })
    }
}

pub(super) type Parsed<T> = Result<T, Fault>;

/// The kind of a value, by its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    True,
    False,
    Byte,
    Int,
    Double,
    Binary,
    List,
    Map,
    Struct,
}

impl Kind {
    fn of(code: u8) -> Parsed<Kind> {
        Ok(match code {
            1 => Kind::True,
            2 => Kind::False,
            3 => Kind::Byte,
            4..=6 => Kind::Int,
            7 => Kind::Double,
            8 => Kind::Binary,
            9 | 10 => Kind::List,
            11 => Kind::Map,
            12 => Kind::Struct,
            _ => return Err(Fault::Damaged),
        })
    }
}

/// Reads values, one after the other.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0 }
    }

    /// Bytes read.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    fn byte(&mut self) -> Parsed<u8> {
        let byte = *self.bytes.get(self.at).ok_or(Fault::Short)?;
        self.at += 1;
        Ok(byte)
    }

    fn take(&mut self, count: usize) -> Parsed<&'a [u8]> {
        let end = self.at.checked_add(count).ok_or(Fault::Damaged)?;
        let bytes = self.bytes.get(self.at..end).ok_or(Fault::Short)?;
        self.at = end;
        Ok(bytes)
    }

    fn varint(&mut self) -> Parsed<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Fault::Damaged)
    }

    /// An integer of 16, 32 or 64 bits.
    pub(super) fn int(&mut self) -> Parsed<i64> {
        let zigzag = self.varint()?;
        Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    pub(super) fn binary(&mut self) -> Parsed<&'a [u8]> {
        let count = usize::try_from(self.varint()?).map_err(|_| Fault::Damaged)?;
        self.take(count)
    }

    pub(super) fn text(&mut self) -> Parsed<String> {
        Ok(String::from_utf8_lossy(self.binary()?).into_owned())
    }

    /// Number and kind of the next field of a structure, whose last one had the number `last`; `None` at
    /// its end.
    pub(super) fn field(&mut self, last: &mut i64) -> Parsed<Option<(i64, Kind)>> {
        let head = self.byte()?;
        if head == 0 {
            return Ok(None);
        }
        *last = match head >> 4 {
            0 => self.int()?,
            step => last.checked_add(i64::from(step)).ok_or(Fault::Damaged)?,
        };
        Ok(Some((*last, Kind::of(head & 0x0f)?)))
    }

    /// Elements of a list, and their kind.
    pub(super) fn list(&mut self) -> Parsed<(usize, Kind)> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => usize::try_from(self.varint()?).map_err(|_| Fault::Damaged)?,
            count => usize::from(count),
        };
        Ok((count, Kind::of(head & 0x0f)?))
    }

    /// A list of structures, each read by `one`.
    pub(super) fn structs<T>(
        &mut self,
        mut one: impl FnMut(&mut Self) -> Parsed<T>,
    ) -> Parsed<Vec<T>> {
        let (count, kind) = self.list()?;
        if kind != Kind::Struct {
            return Err(Fault::Damaged);
        }
        // No memory is taken by count: each element has a byte at least.
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(one(self)?);
        }
        Ok(all)
    }

    /// Passes over a value of a field.
    pub(super) fn skip(&mut self, kind: Kind) -> Parsed<()> {
        self.skip_within(kind, DEPTH)
    }

    fn skip_within(&mut self, kind: Kind, depth: u32) -> Parsed<()> {
        let depth = depth.checked_sub(1).ok_or(Fault::Damaged)?;
        match kind {
            Kind::True | Kind::False => {}
            Kind::Byte => drop(self.byte()?),
            Kind::Int => drop(self.varint()?),
            Kind::Double => drop(self.take(8)?),
            Kind::Binary => drop(self.binary()?),
            Kind::List => {
                let (count, kind) = self.list()?;
                (0..count).try_for_each(|_| self.skip_element(kind, depth))?;
            }
            Kind::Map => self.skip_map(depth)?,
            Kind::Struct => {
                let mut last = 0;
                while let Some((_, kind)) = self.field(&mut last)? {
                    self.skip_within(kind, depth)?;
                }
            }
        }
        Ok(())
    }

    /// Unlike a field, an element that is a truth value takes a byte.
    fn skip_element(&mut self, kind: Kind, depth: u32) -> Parsed<()> {
        match kind {
            Kind::True | Kind::False => self.byte().map(drop),
            other => self.skip_within(other, depth),
        }
    }

    fn skip_map(&mut self, depth: u32) -> Parsed<()> {
        let count = self.varint()?;
        if count == 0 {
            return Ok(());
        }
        let kinds = self.byte()?;
        let (key, value) = (Kind::of(kinds >> 4)?, Kind::of(kinds & 0x0f)?);
        for _ in 0..count {
            self.skip_element(key, depth)?;
            self.skip_element(value, depth)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_zigzag() {
        for (bytes, want) in [
            (&[0u8][..], 0),
            (&[1], -1),
            (&[2], 1),
            (&[0xac, 0x02], 150),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], i64::MIN),
        ] {
            assert_eq!(Reader::new(bytes).int(), Ok(want));
        }
        assert_eq!(Reader::new(&[0x80; 10]).int(), Err(Fault::Damaged));
        assert_eq!(Reader::new(&[0x80]).int(), Err(Fault::Short));
    }

    /// Field 1 is an integer, field 3 a list of two truth values, field 20 a structure with a map.
    #[test]
    fn unknown_fields_are_skipped() {
        let bytes =
            [0x15, 8, 0x29, 0x21, 1, 2, 0x0c, 40, 0x1b, 1, 0x85, 1, b'k', 6, 0, 0x18, 1, b'x', 0];
        let mut reader = Reader::new(&bytes);
        let (mut last, mut seen) = (0, vec![]);
        while let Some((id, kind)) = reader.field(&mut last).unwrap() {
            seen.push((id, kind));
            reader.skip(kind).unwrap();
        }
        let want = [(1, Kind::Int), (3, Kind::List), (20, Kind::Struct), (21, Kind::Binary)];
        assert_eq!((seen, reader.position()), (want.to_vec(), bytes.len()));
    }

    #[test]
    fn endless_nesting_is_refused() {
        let bytes = [0x1c; 100_000];
        assert_eq!(Reader::new(&bytes).skip(Kind::Struct), Err(Fault::Damaged));
        let lists = [0x19; 100_000];
        assert_eq!(Reader::new(&lists).skip(Kind::List), Err(Fault::Damaged));
    }
}
