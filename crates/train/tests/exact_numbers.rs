//! Numbers in `state.json` come back as they were: a resumed run depends on every bit.

/// Any finite f64 from a counter (splitmix64).
fn number(i: u64) -> f64 {
    let mut z = i.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let x = f64::from_bits(z ^ (z >> 31));
    if x.is_finite() { x } else { 1.0 / i as f64 }
}

#[test]
fn floats_survive_json() {
    for i in 1..20_000 {
        // Any magnitude, and the range of losses and rates.
        for x in [number(i), 1.0 / i as f64, (i as f64).sqrt() * 1e-3] {
            let text = serde_json::to_string_pretty(&serde_json::json!({ "x": x })).unwrap();
            let read: serde_json::Value = serde_json::from_str(&text).unwrap();
            let back = read["x"].as_f64().unwrap();
            assert_eq!(back.to_bits(), x.to_bits(), "{x:e} came back as {back:e}");
        }
    }
}
