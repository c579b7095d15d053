//! Small integers in runs: repeated ones, or ones packed into bits (Parquet's "RLE/bit-packing hybrid").

/// Reads integers of `width` bits from the bytes that it is handed.
#[derive(Debug, Clone, Default)]
pub(super) struct Hybrid {
    width: u32,
    /// Where the next run, or the rest of a packed one, begins.
    at: usize,
    end: usize,
    /// Integers left in the run.
    left: u64,
    /// The integer of a repeating run.
    repeated: Option<u32>,
    /// Bits that were read of a packed run, the next in the lowest place.
    bits: u64,
    held: u32,
}

impl Hybrid {
    /// Over `bytes[at..end]`; `None` if integers of that width cannot be.
    pub(super) fn new(width: u32, at: usize, end: usize) -> Option<Hybrid> {
        (width <= 32 && at <= end).then(|| Hybrid { width, at, end, ..Hybrid::default() })
    }

    /// The next integer; `None` where the bytes end before.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Option<u32> {
        // A packed run may be empty.
        while self.left == 0 {
            self.begin_run(bytes)?;
        }
        self.left -= 1;
        match self.repeated {
            Some(value) => Some(value),
            None => self.unpack(bytes),
        }
    }

    fn begin_run(&mut self, bytes: &[u8]) -> Option<()> {
        let mut head = 0u64;
        for shift in (0..35).step_by(7) {
            let byte = self.byte(bytes)?;
            head |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        (self.bits, self.held) = (0, 0);
        if head & 1 == 1 {
            self.repeated = None;
            self.left = (head >> 1) * 8;
        } else {
            let mut value = 0;
            for shift in (0..self.width).step_by(8) {
                value |= u32::from(self.byte(bytes)?) << shift;
            }
            self.repeated = Some(value);
            self.left = head >> 1;
        }
        Some(())
    }

    fn unpack(&mut self, bytes: &[u8]) -> Option<u32> {
        while self.held < self.width {
            self.bits |= u64::from(self.byte(bytes)?) << self.held;
            self.held += 8;
        }
        let value = self.bits & ((1u64 << self.width) - 1);
        self.bits >>= self.width;
        self.held -= self.width;
        Some(value as u32)
    }

    fn byte(&mut self, bytes: &[u8]) -> Option<u8> {
        let byte = bytes.get(..self.end)?.get(self.at)?;
        self.at += 1;
        Some(*byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(width: u32, bytes: &[u8]) -> Vec<u32> {
        let mut hybrid = Hybrid::new(width, 0, bytes.len()).unwrap();
        std::iter::from_fn(|| hybrid.next(bytes)).take(1000).collect()
    }

    /// The example of the format's description: 0 to 7 in three bits each.
    #[test]
    fn packed_runs_begin_with_the_lowest_bits() {
        assert_eq!(all(3, &[3, 0b1000_1000, 0b1100_0110, 0b1111_1010]), [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn runs_follow_one_another() {
        // Five times 300, then eight ones, then twice 7.
        let bytes = [10, 0x2c, 0x01, 3, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 4, 7, 0];
        let mut want = vec![300; 5];
        want.extend([1; 8]);
        want.extend([7, 7]);
        assert_eq!(all(16, &bytes), want);
    }

    #[test]
    fn what_is_cut_short_ends() {
        assert_eq!(all(3, &[3, 0b1000_1000]), [0, 1]);
        assert_eq!(all(8, &[4]), [0; 0]);
        assert_eq!(all(8, &[0x80]), [0; 0]);
        assert_eq!(all(0, &[6]), [0, 0, 0]);
        assert_eq!(all(1, &[1, 1, 1, 3]), [0; 0], "empty runs, then a run without its bits");
        assert!(Hybrid::new(33, 0, 1).is_none());
    }

    /// 20 bits, against shifts of one large number.
    #[test]
    fn wide_integers_are_whole() {
        let bytes: Vec<u8> = (0..20).map(|i| (i * 37 + 11) as u8).collect();
        let run: Vec<u8> = std::iter::once(3).chain(bytes.iter().copied()).collect();
        let want: Vec<u32> = (0..8)
            .map(|i| {
                let bit = |n: usize| u32::from(bytes[n / 8] >> (n % 8) & 1);
                (0..20).map(|b| bit(20 * i + b) << b).sum()
            })
            .collect();
        assert_eq!(all(20, &run), want);
    }
}
