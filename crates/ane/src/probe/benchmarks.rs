//! The benchmarks and probes that published work rests on.

use super::{Outcome, Session, ms, row};
use crate::bench::{Bench, constant, convolution, product, program, small, weight_file};
use crate::cost::{CONSTANTS, Silicon};
use crate::device::Call;
use crate::error::AneError;
use crate::surface::Surface;
use mil::{Arg, Op, Program, TensorType, Weights};

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
    let rows = vec![row(["256 × 64".to_owned(), measured, forecast, format!("{tera:.3}")])];
    let table = Outcome::new(&["1x1 conv", "ms", "forecast ms", "TFLOP/s"], rows);
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
    let floor = CONSTANTS.chip(of.profile.chip.facts().name).floor_ms / 1e3;
    let [measured, forecast] = timed.cells();
    let rows = vec![row(["a * 2".to_owned(), measured, forecast, ms(floor)])];
    let table = Outcome::new(&["program", "ms", "forecast ms", "published floor ms"], rows);
    let near = (0.25 * floor..4.0 * floor).contains(&timed.judged);
    let says =
        format!("{} ms {}, where {} are published", ms(timed.judged), of.source(), ms(floor));
    Ok(table.judge(near, &of.facts("F1-floor"), says))
}

pub(super) fn peak(of: &mut Session<'_>) -> Answer {
    let roof = Silicon::named(of.profile.chip.facts().name).peak_tflops();
    let (mut rows, mut speeds) = (vec![], vec![]);
    // The published chain is for an engine; an emulator would compute it for seconds.
    let (channels, depths) = if of.emulated { (256, [1, 8, 32]) } else { (512, [1, 32, 128]) };
    for depth in depths {
        let (program, weights) = chain(channels, depth)?;
        let timed = of.time(&program, &weights)?;
        let tera = flops(channels, depth) / timed.judged / 1e12;
        let [measured, forecast] = timed.cells();
        let share = format!("{:.0} %", 100.0 * tera / roof);
        let chain = format!("{depth} of {channels}");
        rows.push(row([chain, measured, forecast, format!("{tera:.2}"), share]));
        speeds.push(tera);
    }
    let columns = ["convolutions", "ms", "forecast ms", "TFLOP/s", "of peak"];
    let grows = speeds[2] > 3.0 * speeds[0] && speeds[2] <= 1.2 * roof;
    let says = format!(
        "{:.2} TFLOP/s in the longest chain and {:.2} alone, {}: the dispatch hides the arithmetic of one",
        speeds[2],
        speeds[0],
        of.source()
    );
    let mut facts = of.facts("F1-floor");
    if speeds[2] > 0.6 * roof {
        facts.push("F2-peak");
    }
    Ok(Outcome::new(&columns, rows).judge(grows, &facts, says))
}

pub(super) fn working_set(of: &mut Session<'_>) -> Answer {
    let (mut rows, mut seconds) = (vec![], vec![]);
    for channels in [256, 512, 1024, 2048] {
        let (program, weights) = chain(channels, 1)?;
        let timed = of.time(&program, &weights)?;
        let megabytes = (2 * channels * channels) as f64 / 1e6;
        let giga = flops(channels, 1) / timed.judged / 1e9;
        let [measured, forecast] = timed.cells();
        let speed = [format!("{giga:.0}"), format!("{:.0}", giga / megabytes)];
        let [giga, per] = speed;
        rows.push(row([
            channels.to_string(),
            format!("{megabytes:.2}"),
            measured,
            forecast,
            giga,
            per,
        ]));
        seconds.push(timed.judged);
    }
    let columns = ["channels", "weights MB", "ms", "forecast ms", "GFLOP/s", "per MB"];
    // Dispatch at first, then the stream of weights: 6 MB more between the last two.
    let stream = 6.29e6 / (seconds[3] - seconds[2]) / 1e9;
    let published = CONSTANTS.chip(of.profile.chip.facts().name).stream;
    let near = (0.3 * published..3.0 * published).contains(&stream);
    let says = format!(
        "from 1024 to 2048 channels weights come at {stream:.0} GB/s {}, where {published:.0} are published",
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
    for qos in [0, 1, 5, 10, 21, 33, 47, 63] {
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
        let timed = of.timed(&program, median);
        let [measured, forecast] = timed.cells();
        rows.push(row([qos.to_string(), measured, forecast]));
        seconds.push(timed.judged);
    }
    let table = Outcome::new(&["quality of service", "ms", "forecast ms"], rows);
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
    for (channels, tokens) in [(64, 32), (768, 256)] {
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
        rows.push(row([format!("{channels} × {tokens}"), ms(usual), ms(quick), told]));
        gains.push(gain);
    }
    let table = Outcome::new(&["1x1 conv", "ms", "real-time ms", "times as fast"], rows);
    let says = match (right, of.emulated) {
        (false, _) => "results are wrong".to_owned(),
        (true, true) => "every result is right; what it gains is not forecast".to_owned(),
        (true, false) => format!("every result is right; {:.2} and {:.2}", gains[0], gains[1]),
    };
    let holds = right && (of.emulated || gains[0] > SAME && gains[1] < SAME);
    Ok(table.open(of, holds, &["D-real-time-path"], says))
}

pub(super) fn weight_reload(of: &mut Session<'_>) -> Answer {
    let (program, _) = chain(64, 1)?;
    let x = small(64 * 64, 1);
    let (old, new) = (small(64 * 64, 2), small(64 * 64, 3));
    let mut first = of.bench(&program, &weight_file(&old))?;
    let before = first.answer(&[&x])?;
    let other = of.bench(&program, &weight_file(&new))?.answer(&[&x])?;
    let after = first.answer(&[&x])?;
    let yes = |same: bool| if same { "yes" } else { "no" }.to_owned();
    let right = other == product(&new, &x, 64, 64);
    let rows = vec![
        row(["the first program keeps its constants".to_owned(), yes(before == after)]),
        row(["the same text, compiled anew, has the new ones".to_owned(), yes(right)]),
    ];
    let says = match (before == after, right) {
        (true, true) => "constants are those of the moment of compiling",
        (true, false) => "a second program of the same text has the constants of the first: stale",
        (false, _) => "compiling a program changed the constants of one that was loaded",
    };
    let table = Outcome::new(&["constants", "seen"], rows);
    // That compiling anew helps is what G2-rewritten-files leaves open: it rewrites files in place.
    Ok(table.judge(before == after && right, &["I-fixed-constants"], says.to_owned()))
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
        rows.push(row([format!("{n} × {n} × {n}"), measured, forecast]));
    }
    let says = match right {
        true => "one compiled program gave the right product for every weight it was given",
        false => "products were wrong after the weights changed",
    };
    let table = Outcome::new(&["product", "ms", "forecast ms"], rows);
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
    let table = Outcome::new(&["products", "ms", "forecast ms"], rows.to_vec());
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

/// Whether rows before the last stay as they are when the last key and value change.
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
    let whole = match of.bench(&masked_operation()?, &Weights::new()) {
        Ok(mut bench) => match keeps_mask(&mut bench)? {
            true => "keeps its mask",
            false => "ignores its mask",
        },
        Err(_) => "refused",
    };
    let kept = if decomposed { "keeps its mask" } else { "the mask leaks" };
    let rows = vec![
        row(["product, mask, softmax, product".to_owned(), kept.to_owned()]),
        row(["scaled_dot_product_attention with attn_mask".to_owned(), whole.to_owned()]),
    ];
    let table = Outcome::new(&["attention", "seen"], rows);
    let as_known = decomposed && whole != "keeps its mask";
    let says = format!("written in four operations: {kept}; in one: {whole}");
    let mut facts = vec!["B2-decomposed-attention"];
    // Where our own rules refuse the operation the engine was not asked.
    if whole != "refused" || of.emulated {
        facts.push("B2-attention-mask");
    }
    Ok(table.judge(as_known, &facts, says))
}

pub(super) fn classifier(of: &mut Session<'_>) -> Answer {
    let vocabulary = 8192;
    let ports: [(&str, &[usize]); 2] = [("w", &[1, 1, vocabulary, 64]), ("x", &[1, 1, 64, 64])];
    let formula = program(&ports, |_, x| x[0].matmul(x[1], false, false))?;
    let (w, x) = (small(vocabulary * 64, 2), small(4096, 1));
    let got = of.bench(&formula, &Weights::new())?.answer(&[&w, &x])?;
    let right = got == product(&w, &x, 64, 64);
    let [measured, forecast] = of.time(&formula, &Weights::new())?.cells();
    let rows = vec![row([format!("{vocabulary} × 64 × 64"), measured, forecast])];
    let table = Outcome::new(&["product", "ms", "forecast ms"], rows);
    let says = if right { "every logit is right" } else { "logits are wrong" };
    Ok(table.judge(right, &["B2-product-extent", "E1-exact-sum"], says.to_owned()))
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
