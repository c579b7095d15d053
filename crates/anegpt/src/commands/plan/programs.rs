//! The programs of a plan, as a table and as JSON.

use chip::{Profile, estimate, legal};
use mil::{Function, Program};

/// One program of the plan.
pub(super) struct Row {
    name: String,
    inputs: usize,
    outputs: usize,
    bytes_in: usize,
    bytes_out: usize,
    flops: f64,
    /// Of a run, copies of surfaces excluded.
    engine_seconds: f64,
    /// Of a run by itself.
    seconds: f64,
    bound: &'static str,
    legal: bool,
}

impl Row {
    pub(super) fn new(f: &Function, profile: &Profile) -> Self {
        let e = estimate(f, profile);
        let program = Program::new(f.clone());
        Row {
            name: f.name.clone(),
            inputs: f.inputs().count(),
            outputs: f.outputs.len(),
            bytes_in: f.inputs().map(|id| f.ty(id).bytes()).sum(),
            bytes_out: f.outputs.iter().map(|&id| f.ty(id).bytes()).sum(),
            flops: e.operations.iter().map(|o| o.flops).sum(),
            engine_seconds: e.engine_seconds(),
            seconds: e.seconds,
            bound: e.bound().name(),
            legal: legal::check(&program, profile).is_ok(),
        }
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "name": self.name, "inputs": self.inputs, "outputs": self.outputs,
            "bytes_in": self.bytes_in, "bytes_out": self.bytes_out, "flops": self.flops,
            "engine_seconds": self.engine_seconds, "seconds": self.seconds,
            "bound_by": self.bound, "legal": self.legal,
        })
    }

    fn line(&self, width: usize) -> String {
        format!(
            "  {:<width$} {:>3} {:>3} {:>7.2} {:>7.2} {:>8.3} {:>9.3} {:>8.3}  {}{}",
            self.name,
            self.inputs,
            self.outputs,
            self.bytes_in as f64 / 1e6,
            self.bytes_out as f64 / 1e6,
            self.flops / 1e9,
            1e3 * self.engine_seconds,
            1e3 * self.seconds,
            self.bound,
            if self.legal { "" } else { "; REFUSED, see: anegpt mil check" },
        )
    }
}

/// A line for each program, below the names of the columns.
pub(super) fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max(8);
    let mut text = format!(
        "  {:<width$} {:>3} {:>3} {:>7} {:>7} {:>8} {:>9} {:>8}  bound by\n",
        "program", "in", "out", "MB in", "MB out", "GFLOP", "engine ms", "alone ms"
    );
    rows.iter().for_each(|row| text += &format!("{}\n", row.line(width)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpt::block::Memory;
    use gpt::plan::{BASELINE, Programs};
    use gpt::{Dims, GptConfig};
    use mil::DType;

    /// Programs of later kinds of layers have long names; every line still fits a terminal.
    #[test]
    fn columns_stand_below_their_names() {
        let config = GptConfig::preset("nanochat-d12").unwrap();
        let dims = Dims { config: &config, batch: 1, seq: 2048, dtype: DType::Fp16 };
        let programs = Programs::new(&BASELINE, &dims, Memory::Sequence).unwrap();
        let rows: Vec<Row> = programs.engine().map(|f| Row::new(f, &Profile::default())).collect();
        assert!(rows.iter().any(|row| row.name.len() > 8));
        let text = table(&rows);
        let at = text.find("  bound by").unwrap();
        for line in text.lines().filter(|line| !line.contains("REFUSED")) {
            assert!(line.len() <= 80 && line[..at].trim_end().len() == at, "{text}");
        }
    }
}
