//! The two orders of rotary pairs in the rows of query and key projections.
//!
//! A head of width E is turned in pairs of rows: (i, i + E/2) here and in Hugging Face's checkpoints,
//! (2i, 2i+1) in llama2.c's and in GGUF files of llama.

/// Moves the rows of each head of `w` [heads·width, columns] from neighbours to halves:
/// 2i → i and 2i+1 → i + width/2.
pub(crate) fn to_halves(w: &mut [f32], width: usize, columns: usize) {
    move_rows(w, width, columns, |row| row / 2 + (row % 2) * width / 2);
}

/// Moves the rows of each head from halves to neighbours: undoes [`to_halves`].
pub(crate) fn to_neighbours(w: &mut [f32], width: usize, columns: usize) {
    let half = width / 2;
    move_rows(w, width, columns, |row| 2 * (row % half) + row / half);
}

fn move_rows(w: &mut [f32], width: usize, columns: usize, to: impl Fn(usize) -> usize) {
    for head in w.chunks_exact_mut(width * columns) {
        let old = head.to_vec();
        for (row, values) in old.chunks_exact(columns).enumerate() {
            head[to(row) * columns..][..columns].copy_from_slice(values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotary_pairs_are_moved_and_moved_back() {
        let mut w: Vec<f32> = (0..16).map(|i| i as f32).collect();
        let rows = |w: &[f32]| w.chunks(2).map(|r| r[0] / 2.0).collect::<Vec<_>>();
        to_halves(&mut w, 4, 2);
        assert_eq!(rows(&w), [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
        to_neighbours(&mut w, 4, 2);
        assert_eq!(rows(&w), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    }
}
