//! The benchmarks and probes that published work rests on.

use super::session::{Outcome, Session, failure, ms, row};
use crate::bench::{Bench, constant, convolution, product, program, small, weight_file};
use ane::AneError;
use ane::Surface;
use ane::{Call, Reloaded};
use chip::cost::{CONSTANTS, Silicon};
use chip::legal;
use mil::{Arg, Op, Program, TensorType, Weights};
use std::time::Instant;

type Answer = Result<Outcome, AneError>;

/// `depth` 1×1 convolutions of `channels` channels by one constant, on 64 tokens.
fn chain(channels: usize, depth: usize) -> Result<(Program, Weights), AneError> {
    let program = convolutions(channels, 64, depth)?;
    Ok((program, weight_file(&vec![0.01; channels * channels])))
}

fn convolutions(channels: usize, tokens: usize, depth: usize) -> Result<Program, AneError> {
    program(&[("x", &[1, channels, 1, tokens])], |b, x| {
        let w = constant(b, &[channels, channels, 1, 1]);
        (0..depth).fold(x[0], |y, _| convolution(b, y, w))
    })
}

fn flops(channels: usize, depth: usize) -> f64 {
    (2 * channels * channels * 64 * depth) as f64
}

pub(super) fn in_memory(of: &mut Session<'_>) -> Answer {
    let (program, _) = chain(256, 1)?;
    let (w, x) = (small(256 * 256, 2), small(256 * 64, 1));
    let got = of.bench(&program, &weight_file(&w))?.answer(&[&x])?;
    let right = got == product(&w, &x, 256, 64);
    let timed = of.time(&program, &weight_file(&w))?;
    let tera = flops(256, 1) / timed.judged / 1e12;
    let [measured, forecast] = timed.cells();
    let published = of.published("one conv 1x1, 256 channels, sp 64");
    let rows =
        vec![row(["256 × 64".to_owned(), measured, forecast, published, format!("{tera:.3}")])];
    let columns = ["1x1 conv", of.clock(), "forecast ms", "published ms", "TFLOP/s"];
    let table = Outcome::new(&columns, rows);
    let says = match right {
        true => "it runs, and every element is right",
        false => "it runs, and its results are wrong",
    };
    let facts = of.facts("G1-in-memory");
    let facts = if facts.is_empty() { of.facts("G1-e5rt") } else { facts };
    Ok(table.judge(right, &facts, says.to_owned()))
}

pub(super) fn dispatch(of: &mut Session<'_>) -> Answer {
    let timed =
        of.time(&program(&[("a", &[1, 1, 64, 64])], |_, x| x[0] * 2.0)?, &Weights::new())?;
    let floor = CONSTANTS.of(of.profile.chip).floor_ms / 1e3;
    let [measured, forecast] = timed.cells();
    let rows = vec![row(["a * 2".to_owned(), measured, forecast, ms(floor)])];
    let table = Outcome::new(&["program", of.clock(), "forecast ms", "published floor ms"], rows);
    let near = (0.25 * floor..4.0 * floor).contains(&timed.judged);
    let says =
        format!("{} ms {}, where {} are published", ms(timed.judged), of.source(), ms(floor));
    Ok(table.judge(near, &of.facts("F1-floor"), says))
}

/// Depths and tokens of the published chains of 512 channels.
const CHAINS: [(usize, usize); 5] = [(1, 64), (32, 64), (64, 64), (128, 64), (128, 4096)];

pub(super) fn peak(of: &mut Session<'_>) -> Answer {
    const CHANNELS: usize = 512;
    let roof = Silicon::of(of.profile.chip).peak_tflops();
    let (mut rows, mut speeds) = (vec![], vec![]);
    for (depth, tokens) in CHAINS {
        let program = convolutions(CHANNELS, tokens, depth)?;
        let timed = of.time_engine(&program, || weight_file(&vec![0.01; CHANNELS * CHANNELS]))?;
        let tera = (2 * CHANNELS * CHANNELS * tokens * depth) as f64 / timed.judged / 1e12;
        let published = of.published(&match depth {
            1 => format!("one conv 1x1, {CHANNELS} channels, sp {tokens}"),
            _ => format!("{depth} convs 1x1 of {CHANNELS}, sp {tokens}, fp16"),
        });
        let [measured, forecast] = timed.cells();
        rows.push(row([
            depth.to_string(),
            tokens.to_string(),
            measured,
            forecast,
            published,
            format!("{tera:.2}"),
            format!("{:.0} %", 100.0 * tera / roof),
        ]));
        speeds.push(tera);
    }
    let columns = [
        "512 × 512 convs",
        "tokens",
        of.clock(),
        "forecast ms",
        "published ms",
        "TFLOP/s",
        "of peak",
    ];
    let [one, .., deep, wide] = speeds[..] else { unreachable!("a speed for each chain") };
    let grows = deep > 3.0 * one && wide <= 1.2 * roof;
    let says = format!(
        "{one:.2} TFLOP/s alone, {deep:.2} in a chain of 128, and {wide:.2} with 4096 tokens, {}: \
         the dispatch hides the arithmetic of one",
        of.source()
    );
    let mut facts = of.facts("F1-floor");
    if wide > 0.6 * roof {
        facts.push("F2-peak");
    }
    Ok(Outcome::new(&columns, rows).judge(grows, &facts, says))
}

pub(super) fn working_set(of: &mut Session<'_>) -> Answer {
    let (mut rows, mut seconds) = (vec![], vec![]);
    for channels in [256, 512, 1024, 2048, 3072, 4096] {
        let program = convolutions(channels, 64, 1)?;
        let timed = of.time_engine(&program, || weight_file(&vec![0.01; channels * channels]))?;
        let megabytes = (2 * channels * channels) as f64 / 1e6;
        let giga = flops(channels, 1) / timed.judged / 1e9;
        let [measured, forecast] = timed.cells();
        rows.push(row([
            channels.to_string(),
            format!("{megabytes:.2}"),
            measured,
            forecast,
            of.published(&format!("one conv 1x1, {channels} channels, sp 64")),
            format!("{giga:.0}"),
            format!("{:.0}", giga / megabytes),
        ]));
        seconds.push(timed.judged);
    }
    let columns = [
        "channels",
        "weights MB",
        of.clock(),
        "forecast ms",
        "published ms",
        "GFLOP/s",
        "GFLOP/s per MB",
    ];
    // Dispatch at first, then the stream of weights: 6 MB more from 1024 to 2048 channels.
    let stream = 6.29e6 / (seconds[3] - seconds[2]) / 1e9;
    // 4096 channels are 2 MiB for each core.
    let (last, before) = (33.55e6 / seconds[5] / 1e9, 18.87e6 / seconds[4] / 1e9);
    let published = CONSTANTS.of(of.profile.chip).stream;
    let near = (0.3 * published..3.0 * published).contains(&stream);
    let says = format!(
        "from 1024 to 2048 channels weights come at {stream:.0} GB/s {}, where {published:.0} are \
         published; with 3072 and 4096 at {before:.0} and {last:.0} in all",
        of.source()
    );
    Ok(Outcome::new(&columns, rows).judge(near, &["F3-weight-stream"], says))
}

/// The program and the qualities of service that were measured (D-quality-of-service).
pub(super) fn quality_of_service(of: &mut Session<'_>) -> Answer {
    let weights = small(256 * 256, 2);
    let program = convolutions(256, 64, 1)?;
    let mut bench = of.bench(&program, &weight_file(&weights))?;
    let (mut rows, mut seconds, mut right) = (vec![], vec![], true);
    // Beside them what MAD:m5result.md measured for each on an M5, in ms.
    for (qos, on_m5) in [
        (0, 0.11),
        (1, 0.07),
        (5, 0.07),
        (10, 0.06),
        (21, 0.08),
        (33, 0.06),
        (47, 0.06),
        (63, 0.07),
    ] {
        // Another input each time, so that no result of before passes for one.
        let x = small(256 * 64, qos as usize);
        bench.write(&[&x])?;
        let Some(median) = bench.median_by(Call::Quality(qos), of.runs())? else {
            return Ok(Outcome::not_applicable(
                "requests of this device take no quality of service \
                 (D-quality-of-service: where they do, it changes nothing)",
            ));
        };
        right &= bench.read()? == product(&weights, &x, 256, 64);
        let timed = of.timed(&program, Some(median));
        let [measured, forecast] = timed.cells();
        rows.push(row([qos.to_string(), measured, forecast, format!("{on_m5:.2}")]));
        seconds.push(timed.judged);
    }
    let columns = ["quality of service", of.clock(), "forecast ms", "published ms of M5"];
    let table = Outcome::new(&columns, rows);
    let slowest = seconds.iter().copied().fold(0.0, f64::max);
    let spread = slowest / seconds.iter().copied().fold(f64::INFINITY, f64::min);
    let says = match (right, of.emulated) {
        (false, _) => "results are wrong".to_owned(),
        (true, true) => "every result is right, and the forecast is one for all".to_owned(),
        (true, false) => format!("every result is right, and the slowest takes {spread:.2} times"),
    };
    let holds = right && spread < SAME;
    Ok(table.open(of, holds, &["D-quality-of-service"], says))
}

/// Ratio of two medians of the same work under which they count as the same, on an engine in use.
const SAME: f64 = 1.4;

pub(super) fn performance_statistics(of: &mut Session<'_>) -> Answer {
    let program = program(&[("a", &[1, 1, 64, 64])], |_, x| x[0] * 2.0)?;
    let mut bench = of.bench(&program, &Weights::new())?;
    let reports = (0..9).map(|_| bench.report()).collect::<Result<Vec<_>, _>>()?;
    let told: Vec<(f64, f64)> =
        reports.iter().filter_map(|r| Some((r.seconds, r.hardware_seconds?))).collect();
    let Some(&(_, last)) = told.last() else {
        if of.emulated {
            let says = "no request has a time of the hardware".to_owned();
            return Ok(Outcome::new(&[], vec![]).open(of, true, &["D-entitlements"], says));
        }
        return Ok(Outcome::not_applicable(
            "this device reports the time of a request and no statistics of the hardware, or was \
             not asked for them (--hardware-time); sources contradict each other on whether they \
             can be read at all",
        ));
    };
    let rows = told.iter().map(|&(wall, hardware)| row([ms(wall), ms(hardware)])).collect();
    let says = match told.iter().all(|(wall, hardware)| hardware <= wall) {
        true => format!("it does: {} ms of the last request", ms(last)),
        false => "it reports more than the request took: not a time, or not of this request".into(),
    };
    Ok(Outcome { says, ..Outcome::new(&["request ms", "hardware ms"], rows) })
}

/// Convolutions of the sizes that were measured (D-real-time-path).
pub(super) fn real_time(of: &mut Session<'_>) -> Answer {
    let (mut rows, mut gains, mut right) = (vec![], vec![], true);
    for (channels, tokens, published) in [(64, 32, "1.88"), (768, 256, "1")] {
        // One weight for each output, so that the result is easily told.
        let diagonal = |i: usize| if i / channels == i % channels { 2.0 } else { 0.0 };
        let weights: Vec<f32> = (0..channels * channels).map(diagonal).collect();
        let mut bench = of.bench(&convolutions(channels, tokens, 1)?, &weight_file(&weights))?;
        bench.write(&[&small(channels * tokens, 1)])?;
        let usual = bench.median(of.runs())?;
        let x = small(channels * tokens, 2);
        bench.write(&[&x])?;
        let quick = match bench.median_by(Call::RealTime, of.runs()) {
            Ok(Some(quick)) => quick,
            Ok(None) => {
                return Ok(Outcome::not_applicable(
                    "this device has one call for requests, not the real-time one \
                     (D-real-time-path: 1.88 times as fast for 64×32, nothing for 768×256)",
                ));
            }
            Err(error @ AneError::Reported { .. }) => {
                let facts = ["D-real-time-path"];
                let outcome = Outcome::new(&[], vec![]).judge(false, &facts, error.to_string());
                return Ok(Outcome { supports: vec!["D-real-time-entitled"], ..outcome });
            }
            // The system does not have it.
            Err(error) => return Ok(Outcome::not_applicable(&error.to_string())),
        };
        right &= bench.read()?.iter().zip(&x).all(|(y, x)| *y == 2.0 * x);
        let gain = usual / quick;
        let told = if of.emulated { "no forecast".to_owned() } else { format!("{gain:.2}") };
        rows.push(row([
            format!("{channels} × {tokens}"),
            ms(usual),
            ms(quick),
            told,
            published.to_owned(),
        ]));
        gains.push(gain);
    }
    let table =
        Outcome::new(&["1x1 conv", of.clock(), "in real time", "times as fast", "published"], rows);
    let says = match (right, of.emulated) {
        (false, _) => "results are wrong".to_owned(),
        (true, true) => "every result is right; what it gains is not forecast".to_owned(),
        (true, false) => format!("every result is right; {:.2} and {:.2}", gains[0], gains[1]),
    };
    let holds = right && (of.emulated || gains[0] > SAME && gains[1] < SAME);
    Ok(table.open(of, holds, &["D-real-time-path"], says))
}

/// Published of the machine that was measured, an M5: ms of compiling and loading a 64×64 convolution,
/// of unloading it, and of loading it again (D-compile-time, D-load-time: MAD:training/m5result.md).
const COMPILED_MS: f64 = 33.3;
const RELOADED_MS: [f64; 2] = [0.5, 3.8];

pub(super) fn weight_reload(of: &mut Session<'_>) -> Answer {
    let (program, _) = chain(64, 1)?;
    let x = small(64 * 64, 1);
    let (old, new) = (weight_file(&small(64 * 64, 2)), weight_file(&small(64 * 64, 3)));
    let compiled = |weights| -> Result<(Bench, f64), AneError> {
        let start = Instant::now();
        let bench = of.bench(&program, weights)?;
        Ok((bench, start.elapsed().as_secs_f64()))
    };
    let (mut first, first_seconds) = compiled(&old)?;
    let before = first.answer(&[&x])?;
    let (mut second, second_seconds) = compiled(&new)?;
    let other = second.answer(&[&x])?;
    let kept = first.answer(&[&x])? == before;
    let right = other == product(&small(64 * 64, 3), &x, 64, 64);
    // What loading it again took, and what it computes then.
    let mut again = || -> Result<Option<(Reloaded, Vec<f32>)>, AneError> {
        let Some(reloaded) = first.executable.reload(&new)? else { return Ok(None) };
        Ok(Some((reloaded, first.answer(&[&x])?)))
    };
    let reloaded = again();
    let seen = match &reloaded {
        Err(_) => "refused",
        Ok(None) => "not offered",
        Ok(Some((_, after))) if *after == before => "the old ones",
        Ok(Some((_, after))) if *after == other => "the new ones",
        Ok(Some(_)) => "neither",
    };
    let yes = |same: bool| if same { "yes" } else { "no" }.to_owned();
    let both = |[a, b]: [f64; 2]| format!("{} + {}", ms(a), ms(b));
    // What the emulator does here comes from the fact.
    let took = match &reloaded {
        Ok(Some((took, _))) if !of.emulated => Some([took.unload_seconds, took.load_seconds]),
        _ => None,
    };
    let published = ms(COMPILED_MS / 1e3);
    let rows = vec![
        row([
            "the first program keeps its constants".to_owned(),
            yes(kept),
            ms(first_seconds),
            published.clone(),
        ]),
        row([
            "the same text, compiled anew, has the new ones".to_owned(),
            yes(right),
            ms(second_seconds),
            published,
        ]),
        row([
            "its files rewritten, unloaded and loaded again, it has".to_owned(),
            seen.to_owned(),
            took.map_or("-".to_owned(), both),
            both(RELOADED_MS.map(|ms| ms / 1e3)),
        ]),
    ];
    let table = Outcome::new(&["constants", "seen", of.clock(), "published ms, M5"], rows);
    let same = matches!(seen, "the old ones" | "not offered" | "refused");
    let mut says = match (kept, right, same) {
        (true, true, true) => "constants are those of the moment of compiling",
        (true, true, false) => "a program that is loaded again has other constants",
        (true, false, _) => {
            "a second program of the same text has the constants of the first: stale"
        }
        (false, ..) => "compiling a program changed the constants of one that was loaded",
    }
    .to_owned();
    if let Err(error) = &reloaded {
        let error = error.to_string().replace('\n', "; ");
        says = format!("{says}; loading it again with other files was refused ({error})");
    }
    let mut facts = vec!["I-fixed-constants"];
    if took.is_some() {
        facts.push("G2-rewritten-files");
    }
    let mut outcome = table.judge(kept && right && same, &facts, says);
    if seen == "the new ones" {
        outcome.supports.push("G2-rewritten-files-work");
    }
    Ok(outcome)
}

pub(super) fn dynamic_matmul(of: &mut Session<'_>) -> Answer {
    let (mut rows, mut right) = (vec![], true);
    for n in [64, 256] {
        let shape = [1, 1, n, n];
        let formula =
            program(&[("a", &shape), ("w", &shape)], |_, x| x[0].matmul(x[1], false, false))?;
        let mut bench = of.bench(&formula, &Weights::new())?;
        let a = small(n * n, 1);
        for seed in [2, 3] {
            let w = small(n * n, seed);
            right &= bench.answer(&[&a, &w])? == product(&a, &w, n, n);
        }
        let [measured, forecast] = of.time(&formula, &Weights::new())?.cells();
        let published = of.published(&format!("matmul {n}"));
        rows.push(row([format!("{n} × {n} × {n}"), measured, forecast, published]));
    }
    // The seed's size: a projection of Stories110M.
    let ports: [(&str, &[usize]); 2] = [("a", &[1, 1, 256, 768]), ("w", &[1, 1, 768, 768])];
    let projection = program(&ports, |_, x| x[0].matmul(x[1], false, false))?;
    let [measured, forecast] = of.time_engine(&projection, Weights::new)?.cells();
    rows.push(row(["256 × 768 × 768".to_owned(), measured, forecast, "-".to_owned()]));
    let says = match right {
        true => "one compiled program gave the right product for every weight it was given",
        false => "products were wrong after the weights changed",
    };
    let columns = ["product", of.clock(), "forecast ms", "published ms"];
    let table = Outcome::new(&columns, rows);
    Ok(table.judge(right, &["G2-weights-as-inputs"], says.to_owned()))
}

pub(super) fn fused(of: &mut Session<'_>) -> Answer {
    let shape: &[usize] = &[1, 1, 64, 64];
    let ports = [("a", shape), ("u", shape), ("v", shape), ("w", shape)];
    let all = program(&ports, |b, x| {
        let products: Vec<_> = x[1..].iter().map(|&w| x[0].matmul(w, false, false)).collect();
        b.concat(2, &products)
    })?;
    let one = program(&ports[..2], |_, x| x[0].matmul(x[1], false, false))?;
    let a = small(4096, 1);
    let weights = [2, 3, 4].map(|seed| small(4096, seed));
    let [u, v, w] = &weights;
    let together = of.bench(&all, &Weights::new())?.answer(&[&a, u, v, w])?;
    let mut single = of.bench(&one, &Weights::new())?;
    let apart = weights.iter().map(|w| single.answer(&[&a, w])).collect::<Result<Vec<_>, _>>()?;
    let same = together == apart.concat();
    let (t3, t1) = (of.time(&all, &Weights::new())?, of.time(&one, &Weights::new())?);
    let gain = 3.0 * t1.judged / t3.judged;
    let rows = [("three in one program", t3), ("one of three", t1)].map(|(name, timed)| {
        let [measured, forecast] = timed.cells();
        row([name.to_owned(), measured, forecast])
    });
    let says = format!(
        "{}; one request in place of three is {gain:.1} times as fast, {}",
        if same { "the same bits" } else { "other bits" },
        of.source()
    );
    let table = Outcome::new(&["products", of.clock(), "forecast ms"], rows.to_vec());
    Ok(table.judge(same && gain > 1.2, &of.facts("F1-floor"), says))
}

/// Attention of 64 tokens and 64 features, by product, mask, softmax and product.
fn attention() -> Result<Program, AneError> {
    let shape: &[usize] = &[1, 1, 64, 64];
    program(&[("k", shape), ("mask", shape), ("q", shape), ("v", shape)], |_, x| {
        let scores = x[2].matmul(x[0], false, true) * 0.125 + x[1];
        scores.softmax(-1).matmul(x[3], false, false)
    })
}

/// The operation that ignores its mask, with a mask.
fn masked_operation() -> Result<Program, AneError> {
    let shape: &[usize] = &[1, 1, 64, 64];
    program(&[("k", shape), ("mask", shape), ("q", shape), ("v", shape)], |b, x| {
        let ports = [("query", x[2]), ("key", x[0]), ("value", x[3]), ("attn_mask", x[1])];
        b.op(Op::Attention, ports.map(|(name, t)| (name, Arg::Value(t.id()))).to_vec())[0]
    })
}

/// True if rows before the last stay as they are when the last key and value change.
fn keeps_mask(bench: &mut Bench) -> Result<bool, AneError> {
    let wave = |step: f32| -> Vec<f32> { (0..4096).map(|i| (i as f32 * step).sin()).collect() };
    let mask: Vec<f32> = (0..4096).map(|i| if i % 64 > i / 64 { -10_000.0 } else { 0.0 }).collect();
    let (mut k, q, mut v) = (wave(0.37), wave(0.11), wave(0.23));
    let before = bench.answer(&[&k, &mask, &q, &v])?;
    k[63 * 64..].fill(1.0);
    v[63 * 64..].fill(3.0);
    let after = bench.answer(&[&k, &mask, &q, &v])?;
    Ok(before[..63 * 64] == after[..63 * 64] && before[63 * 64..] != after[63 * 64..])
}

pub(super) fn causal_attention(of: &mut Session<'_>) -> Answer {
    let decomposed = keeps_mask(&mut of.bench(&attention()?, &Weights::new())?)?;
    let (whole, ignored) = match of.compile_past_rules(&masked_operation()?, &Weights::new()) {
        // An engine that refuses the operation says nothing of its mask; an emulator refuses it
        // because of the fact.
        Err(_) => ("refused".to_owned(), of.emulated.then_some(true)),
        Ok(executable) => {
            let kept = Bench::new(of.device, executable).and_then(|mut b| keeps_mask(&mut b));
            match kept {
                Ok(true) => ("keeps its mask".to_owned(), Some(false)),
                Ok(false) => ("ignores its mask".to_owned(), Some(true)),
                Err(error) => (failure(&error), None),
            }
        }
    };
    let kept = if decomposed { "keeps its mask" } else { "the mask leaks" };
    let rows = vec![
        row(["product, mask, softmax, product".to_owned(), kept.to_owned()]),
        row(["scaled_dot_product_attention with attn_mask".to_owned(), whole.clone()]),
    ];
    let table = Outcome::new(&["attention", "seen"], rows);
    let says = format!("written in four operations: {kept}; in one: {whole}");
    let mut facts = vec![("B2-decomposed-attention", decomposed)];
    facts.extend(ignored.map(|ignored| ("B2-attention-mask", ignored)));
    Ok(table.judge_each(&facts, says))
}

/// Tokens of Llama 2, which the seed's models have.
const VOCABULARY: usize = 32_000;

/// A program over a whole vocabulary, with what it must give.
struct Large {
    what: &'static str,
    formula: Program,
    weights: Weights,
    /// In binding order.
    inputs: Vec<Vec<f32>>,
    right: Vec<f32>,
}

fn large() -> Result<[Large; 4], AneError> {
    const N: usize = VOCABULARY;
    let token = |row: usize| 499 * row + 7;
    let (w, x) = (small(N * 64, 2), small(64 * 64, 1));
    // Row by row, and column by column, a one for one token: the product selects weights.
    let chosen = |i: usize, token_at: usize| if token_at == token(i) { 1.0 } else { 0.0 };
    let rows: Vec<f32> = (0..64 * N).map(|at| chosen(at / N, at % N)).collect();
    let columns: Vec<f32> = (0..N * 64).map(|at| chosen(at % 64, at / 64)).collect();
    let select = |of: &dyn Fn(usize, usize) -> usize| -> Vec<f32> {
        (0..64 * 64).map(|at| w[of(at / 64, at % 64)]).collect()
    };
    let conv = |from: usize, to: usize| {
        program(&[("x", &[1, from, 1, 64])], |b, x| {
            convolution(b, x[0], constant(b, &[to, from, 1, 1]))
        })
    };
    let ports: [(&str, &[usize]); 2] = [("w", &[1, 1, N, 64]), ("x", &[1, 1, 64, N])];
    Ok([
        Large {
            what: "convolution of 64 to 32000 channels",
            formula: conv(64, N)?,
            weights: weight_file(&w),
            right: product(&w, &x, 64, 64),
            inputs: vec![x],
        },
        Large {
            what: "convolution of 32000 to 64 channels",
            formula: conv(N, 64)?,
            weights: weight_file(&w),
            inputs: vec![columns],
            right: select(&|output, t| output * N + token(t)),
        },
        Large {
            what: "product over 32000 elements",
            formula: program(&ports, |_, x| x[1].matmul(x[0], false, false))?,
            weights: Weights::new(),
            right: select(&|t, j| token(t) * 64 + j),
            inputs: vec![w, rows],
        },
        Large {
            what: "softmax over 32000 channels",
            formula: program(&[("x", &[1, N, 1, 64])], |_, x| x[0].softmax(1))?,
            weights: Weights::new(),
            inputs: vec![vec![0.0; N * 64]],
            right: vec![1.0 / N as f32; N * 64],
        },
    ])
}

impl Large {
    /// Asks the machine itself; how it went, in a word, unless the run fails. A softmax is right
    /// within 2 %.
    fn seen(&self, of: &Session<'_>) -> Result<&'static str, AneError> {
        let Ok(executable) = of.compile_past_rules(&self.formula, &self.weights) else {
            return Ok("refused");
        };
        let inputs: Vec<&[f32]> = self.inputs.iter().map(Vec::as_slice).collect();
        let got = Bench::new(of.device, executable)?.answer(&inputs)?;
        let near = |(y, right): (&f32, &f32)| y == right || (y / right - 1.0).abs() < 0.02;
        Ok(if got.iter().zip(&self.right).all(near) { "right" } else { "wrong" })
    }
}

pub(super) fn classifier(of: &mut Session<'_>) -> Answer {
    let dash = || "-".to_owned();
    let products = [of.facts("B2-product-extent"), of.facts("B2-product-over-vocabulary")].concat();
    let about =
        [vec!["B2-output-channels"], vec!["B2-input-channels"], products, vec!["B2-softmax"]];
    let facts_asked = about.iter().map(Vec::len).sum::<usize>();
    let (mut rows, mut judged) = (vec![], vec![]);
    for (case, facts) in large()?.into_iter().zip(about) {
        let refused = legal::check(&case.formula, &of.profile).is_err();
        let said = if refused { "refused" } else { "right" };
        let seen = case.seen(of);
        if let Ok(seen) = seen {
            judged.extend(facts.into_iter().map(|fact| (fact, seen == said)));
        }
        let seen = seen.map_or_else(|error| failure(&error), str::to_owned);
        rows.push(row([case.what.to_owned(), seen, said.to_owned(), dash(), dash(), dash()]));
    }
    // The programs whose times are published.
    let forward = program(&[("x", &[1, 768, 1, 256])], |b, x| {
        convolution(b, x[0], constant(b, &[VOCABULARY, 768, 1, 1]))
    })?;
    let softmax = program(&[("x", &[1, VOCABULARY, 1, 256])], |_, x| x[0].softmax(1))?;
    let zeros = || weight_file(&vec![0.0; VOCABULARY * 768]);
    for (what, timed) in [
        ("classifier 768 to 32000, 256 tokens", of.time_engine(&forward, zeros)),
        ("softmax over 32000 channels, 256 tokens", of.time_engine(&softmax, Weights::new)),
    ] {
        let [measured, forecast] = timed.map_or_else(|e| [failure(&e), dash()], |t| t.cells());
        rows.push(row([what.to_owned(), dash(), dash(), measured, forecast, of.published(what)]));
    }
    let columns = ["program", "seen", "facts in force", of.clock(), "forecast ms", "published ms"];
    let table = Outcome::new(&columns, rows);
    let says = match (judged.iter().all(|(_, holds)| *holds), judged.len() == facts_asked) {
        (true, true) => {
            "a vocabulary of 32000 runs where the facts in force let it, and results are right"
        }
        (true, false) => "what runs is as the facts in force say, but not everything runs",
        (false, _) => {
            "a vocabulary of 32000 runs elsewhere than the facts in force say, or is wrong"
        }
    };
    Ok(table.judge_each(&judged, says.to_owned()))
}

/// y = 2·x, then z = 3·y by another program that is bound to the surface of y.
pub(super) fn chaining(of: &mut Session<'_>) -> Answer {
    let ty = TensorType::fp16([1, 1, 256, 128]);
    let allocation = ty.bytes().max(of.device.least_allocation());
    let compile = |factor: f64| {
        let formula = program(&[("x", &ty.shape)], |_, x| x[0] * factor)?;
        of.device.compile(&formula, &Weights::new())
    };
    let (mut double, mut triple) = (compile(2.0)?, compile(3.0)?);
    let surface = || -> Result<Surface, AneError> { of.device.surface(&ty, allocation) };
    let (x, y, z) = (surface()?, surface()?, surface()?);
    let (mut right, values) = (true, small(ty.count(), 1));
    let mut got = vec![0.0; ty.count()];
    for round in 1..4u8 {
        let input: Vec<f32> = values.iter().map(|v| v * f32::from(round)).collect();
        x.write(&input)?;
        double.run(&[&x], &[&y])?;
        triple.run(&[&y], &[&z])?;
        z.read(&mut got)?;
        right &= got.iter().zip(&input).all(|(z, x)| *z == 6.0 * x);
    }
    let seen = if right { "right, three times" } else { "wrong" };
    let mut facts = vec!["C1-shared-surfaces"];
    let (chained, why) = match double.run_by(Call::Chained, &[&x], &[&y]) {
        Ok(None) => ("not offered", String::new()),
        // What follows, that the engine makes its buffers ready, nobody has seen.
        Ok(Some(_)) => ("prepared, not sent", String::new()),
        Err(error) => {
            // An engine's word; what the emulator knows comes from the fact.
            if matches!(error, AneError::Reported { .. }) {
                facts.push("G1-chaining");
            }
            ("refused", format!(" ({})", error.to_string().replace('\n', "; ")))
        }
    };
    let rows = vec![
        row(["a surface written by one program and read by the next".to_owned(), seen.to_owned()]),
        row(["a chain of requests (_ANEChainingRequest)".to_owned(), chained.to_owned()]),
    ];
    let says = format!("shared surfaces: {seen}; a chain of requests: {chained}{why}");
    Ok(Outcome::new(&["chaining", "seen"], rows).judge(right, &facts, says))
}
