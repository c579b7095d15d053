//! Where a text is generated sooner: on the Neural Engine or on the CPU.
//!
//! Nobody can tell in advance: requests to the engine have a price of their own, which a small model or a short prompt
//! does not earn back. So both are asked to read the same tokens, and the clock decides.

use crate::machine::{self, DeviceChoice, Kind, Machine};
use anyhow::Result;
use gpt::slots::WeightFormat;
use gpt::{Column, Decoder, ModelError, Parameters, SlotDecoder, SlotOptions};
use std::time::Instant;

/// Tokens of a prompt that are read on trial.
const PROMPT: usize = 64;
/// Trials of each kind, of which the fastest counts.
const TRIALS: usize = 3;

/// Seconds that a token takes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Pace {
    /// One of a prompt, which are read many at a time.
    prompt: f64,
    /// One that is drawn.
    drawn: f64,
}

impl Pace {
    /// Of what reads tokens at the end of a text and, given none, forgets it.
    fn measure(
        config: &gpt::GptConfig,
        mut read: impl FnMut(&[u32]) -> Result<(), ModelError>,
    ) -> Result<Pace, ModelError> {
        let count = PROMPT.min(config.seq_len.saturating_sub(1)).max(1);
        let tokens: Vec<u32> = (0..count).map(|i| (i * 31 % config.vocab_size) as u32).collect();
        let mut least = Pace { prompt: f64::INFINITY, drawn: f64::INFINITY };
        // The first time of all compiles, and warms caches.
        for trial in 0..=TRIALS {
            read(&[])?;
            let start = Instant::now();
            read(&tokens)?;
            let prompt = start.elapsed().as_secs_f64() / count as f64;
            let start = Instant::now();
            if count < config.seq_len {
                read(&tokens[..1])?;
            }
            let drawn = start.elapsed().as_secs_f64();
            if trial > 0 {
                least = Pace { prompt: least.prompt.min(prompt), drawn: least.drawn.min(drawn) };
            }
        }
        read(&[])?;
        Ok(least)
    }

    /// Seconds for a text of `prompt` tokens and `drawn` more.
    fn seconds(self, prompt: usize, drawn: usize) -> f64 {
        prompt as f64 * self.prompt + drawn as f64 * self.drawn
    }

    fn describe(self) -> String {
        format!("{:.2} and {:.2} ms", 1e3 * self.prompt, 1e3 * self.drawn)
    }
}

/// The pace of a device.
fn of_device(parameters: &Parameters, machine: &Machine) -> Result<Pace, ModelError> {
    let (device, numerics) = (machine.device.as_ref(), machine.numerics);
    let mut decoder = Decoder::new(parameters, device.least_width(), device, numerics)?;
    Pace::measure(parameters.config(), |tokens| {
        match tokens {
            [] => decoder.reset(),
            tokens => drop(decoder.feed(tokens)?),
        }
        Ok(())
    })
}

/// The pace of the CPU, with weights in f32.
fn of_cpu(parameters: &Parameters) -> Result<Pace, ModelError> {
    let options = SlotOptions { slots: 1, context: PROMPT + 1, weights: WeightFormat::F32 };
    let mut decoder = SlotDecoder::new(parameters, options)?;
    Pace::measure(parameters.config(), |tokens| {
        let last = tokens.len();
        let column = |(i, &token): (usize, &u32)| Column { slot: 0, token, logits: i + 1 == last };
        let columns: Vec<Column> = tokens.iter().enumerate().map(column).collect();
        match columns[..] {
            [] => decoder.truncate(0, 0),
            _ => drop(decoder.forward(&columns)?.len()),
        }
        Ok(())
    })
}

/// The machine for a text of `prompt` tokens and up to `drawn` more: `engine`, or the CPU if that is done sooner.
pub(crate) fn choose(
    engine: Machine,
    parameters: &Parameters,
    prompt: usize,
    drawn: usize,
) -> Result<Machine> {
    let paces = [of_device(parameters, &engine)?, of_cpu(parameters)?];
    let [on_engine, on_cpu] = paces.map(|pace| pace.seconds(prompt, drawn));
    let [engine_pace, cpu_pace] = paces.map(Pace::describe);
    let measured = format!(
        "a token read and a token drawn take {engine_pace} on {}, {cpu_pace} on {}",
        engine.kind.name(),
        Kind::Cpu.name(),
    );
    match on_engine <= on_cpu {
        true => Ok(Machine { reason: measured, ..engine }),
        false => Ok(Machine { reason: measured, ..machine::open(DeviceChoice::Cpu, None, None)? }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ane::{Device, Emulator, Paced};
    use chip::Profile;
    use cpu::Numerics;
    use gpt::{GptConfig, initialise};

    /// Large enough that its products take longer than all that the host does around requests.
    fn model() -> Parameters {
        let config = GptConfig {
            n_layer: 2,
            n_head: 4,
            n_kv_head: 4,
            n_embd: 256,
            head_dim: 64,
            hidden: 2048,
            vocab_size: 64,
            seq_len: 128,
            ..GptConfig::default()
        };
        Parameters::new(&config, initialise(&config, 1))
    }

    fn engine(around: impl Fn(Box<dyn Device>) -> Paced) -> Machine {
        let inside = Box::new(Emulator::engine(Profile::default(), Numerics::Fast));
        let device: Box<dyn Device> = Box::new(around(inside));
        let reason = String::new();
        Machine { device, numerics: Numerics::Fast, reason, kind: Kind::Engine, ranges: None }
    }

    #[test]
    fn the_slower_one_is_not_taken() {
        let model = model();
        // Requests that are done at once, and requests of 500 times their forecast.
        let fast = choose(engine(|d| Paced::asleep(d, 0.0)), &model, 1000, 0).unwrap();
        assert_eq!(fast.kind, Kind::Engine, "{}", fast.reason);
        let slow = choose(engine(|d| Paced::asleep(d, 500.0)), &model, 1000, 1000).unwrap();
        assert_eq!((slow.kind, slow.numerics), (Kind::Cpu, Numerics::F32), "{}", slow.reason);
        assert!(slow.reason.contains("on the Neural Engine, "), "{}", slow.reason);
    }

    /// What counts is the time of the whole text.
    #[test]
    fn prompts_and_drawn_tokens_have_their_own_pace() {
        let [reads, draws] = [(1.0, 8.0), (2.0, 1.0)].map(|(prompt, drawn)| Pace { prompt, drawn });
        assert!(reads.seconds(100, 3) < draws.seconds(100, 3));
        assert!(reads.seconds(100, 30) > draws.seconds(100, 30));
    }

    #[test]
    fn a_model_of_one_token_has_a_pace() {
        let config = GptConfig { seq_len: 1, ..model().config().clone() };
        let model = Parameters::new(&config, initialise(&config, 1));
        let machine = engine(|d| Paced::asleep(d, 0.0));
        assert!(choose(machine, &model, 1, 0).is_ok());
    }
}
