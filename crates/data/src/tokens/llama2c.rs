//! Weights of llama2.c, which end in `.bin` as token files do.

/// Words of the header: dim, hidden, layers, heads, key heads, vocabulary, sequence.
const HEADER: usize = 7;

/// Refuses a model: a file that has exactly the size that its own first words say.
pub(super) fn refuse_model(bytes: &[u8]) -> Result<(), String> {
    let Some((header, _)) = bytes.as_chunks::<4>().0.split_first_chunk::<HEADER>() else {
        return Ok(());
    };
    let header = header.map(i32::from_le_bytes);
    if size(header) != Some(bytes.len() as i128) {
        return Ok(());
    }
    let [dim, _, layers, heads, ..] = header;
    Err(format!(
        "this is a model of llama2.c (width {dim}, {layers} layers, {heads} heads), not token ids: give it \
         to --model of anegpt generate or anegpt eval, or to --init of anegpt train"
    ))
}

/// Bytes of a model with this header; none if it is the header of no model.
fn size(header: [i32; HEADER]) -> Option<i128> {
    let [dim, hidden, layers, heads, key_heads, vocab, seq] = header.map(i128::from);
    let divides = |n: i128, by: i128| n > 0 && by > 0 && n % by == 0;
    if !(divides(dim, heads) && divides(heads, key_heads) && hidden > 0 && layers > 0 && seq > 0) {
        return None;
    }
    let (head, embedding) = (dim / heads, vocab.abs() * dim);
    let classifier = if vocab < 0 { embedding } else { 0 };
    let attention = 2 * dim * dim + 2 * dim * key_heads * head;
    let layer = 2 * dim + attention + 3 * dim * hidden;
    // The tables of rotary cosines and sines have a sequence of half heads each.
    Some(28 + 4 * (embedding + layers * layer + dim + seq * head + classifier))
}
