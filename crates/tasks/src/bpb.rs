//! Bits per byte: the loss over text, of any tokenizer.

/// Sums over the predicted tokens that are text. A token that stands for no byte (a marker) is in none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BitsPerByte {
    /// Loss in nats.
    pub nats: f64,
    /// Bytes that the tokens stand for.
    pub bytes: u64,
    /// Tokens.
    pub tokens: u64,
}

impl BitsPerByte {
    /// Adds a predicted token that stands for `bytes` bytes, with its loss.
    pub fn add(&mut self, nats: f64, bytes: usize) {
        if bytes > 0 {
            self.nats += nats;
            self.bytes += bytes as u64;
            self.tokens += 1;
        }
    }

    /// nats / (ln 2 · bytes); `None` if there is no byte.
    pub fn value(&self) -> Option<f64> {
        (self.bytes > 0).then(|| self.nats / (std::f64::consts::LN_2 * self.bytes as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A loss of ln 2 for each of 3 bytes is one bit per byte; a marker counts for nothing.
    #[test]
    fn tokens_without_bytes_do_not_count() {
        let mut sums = BitsPerByte::default();
        assert_eq!(sums.value(), None);
        sums.add(100.0, 0);
        assert_eq!(sums.value(), None);
        sums.add(2.0 * std::f64::consts::LN_2, 2);
        sums.add(std::f64::consts::LN_2, 1);
        assert_eq!((sums.value(), sums.bytes, sums.tokens), (Some(1.0), 3, 2));
    }
}
