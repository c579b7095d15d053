//! The file: a zip archive of `manifest.json`, MIL text, weight files and `.npy` arrays.

use super::form::{FORMAT, MachineInfo, ProgramTrace, RunTrace, Trace, TraceError, VERSION};
use crate::array::{Array, npy, zip};
use ane::Port;
use mil::{DType, TensorType};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const MANIFEST: &str = "manifest.json";

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: String,
    version: u32,
    machine: MachineInfo,
    programs: Vec<ProgramEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ProgramEntry {
    text: String,
    weights: BTreeMap<String, String>,
    compile_seconds: f64,
    inputs: Vec<PortEntry>,
    outputs: Vec<PortEntry>,
    runs: Vec<RunEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct PortEntry {
    name: String,
    dtype: String,
    shape: Vec<usize>,
}

#[derive(Debug, Serialize, Deserialize)]
struct RunEntry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    call: Option<String>,
    seconds: f64,
    inputs: Vec<String>,
    outputs: Vec<String>,
}

impl PortEntry {
    fn of(port: &Port) -> Self {
        let (dtype, shape) = (port.ty.dtype.name().to_owned(), port.ty.shape.clone());
        PortEntry { name: port.name.clone(), dtype, shape }
    }

    fn port(&self) -> Result<Port, TraceError> {
        let dtype = DType::from_name(&self.dtype)
            .ok_or_else(|| TraceError::Manifest(format!("names a type `{}`", self.dtype)))?;
        let ty = TensorType::new(dtype, self.shape.clone());
        Ok(Port { name: self.name.clone(), ty })
    }
}

/// The name of port number `at` as part of an entry's name: its own, as names in MIL text are
/// plain; others are numbered.
fn file_name(ports: &[Port], at: usize) -> String {
    let name = &ports[at].name;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let unique = ports.iter().filter(|port| port.name == *name).count() == 1;
    let numbered = name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit());
    match unique && !numbered && name.len() <= 100 && name.chars().all(plain) {
        true => format!("{name}.npy"),
        false => format!("{at}.npy"),
    }
}

impl Trace {
    /// The file of the trace. Equal traces are equal bytes.
    ///
    /// # Errors
    /// When it would be larger than a zip archive can be.
    pub fn to_bytes(&self) -> Result<Vec<u8>, TraceError> {
        let mut writer = zip::Writer::new();
        let programs = (self.programs.iter().enumerate())
            .map(|(i, program)| write_program(&mut writer, &format!("programs/{i}"), program))
            .collect::<Result<_, _>>()?;
        let machine = self.machine.clone();
        let manifest = Manifest { format: FORMAT.to_owned(), version: VERSION, machine, programs };
        let json = serde_json::to_string_pretty(&manifest)
            .map_err(|e| TraceError::Manifest(format!("cannot be written: {e}")))?;
        writer.add(MANIFEST, json.as_bytes())?;
        Ok(writer.finish())
    }

    /// Reads the file of a trace. Memory stays in proportion to what the file really holds: every
    /// array is checked against its port before it is believed.
    ///
    /// # Errors
    /// When the bytes are no trace, are damaged, or of a newer version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TraceError> {
        let archive = zip::Archive::parse(bytes)?;
        let wrong = |e: serde_json::Error| TraceError::Manifest(format!("cannot be read: {e}"));
        let json = archive.read(MANIFEST)?;
        #[derive(Deserialize)]
        struct Header {
            format: String,
            version: u32,
        }
        let header: Header = serde_json::from_slice(&json).map_err(wrong)?;
        if header.format != FORMAT {
            return Err(TraceError::Manifest(format!("is of the format `{}`", header.format)));
        }
        if header.version == 0 || header.version > VERSION {
            return Err(TraceError::Version(header.version));
        }
        let manifest: Manifest = serde_json::from_slice(&json).map_err(wrong)?;
        let programs = (manifest.programs.iter())
            .map(|entry| read_program(&archive, entry))
            .collect::<Result<_, _>>()?;
        Ok(Trace { machine: manifest.machine, programs })
    }
}

fn write_program(
    writer: &mut zip::Writer,
    base: &str,
    program: &ProgramTrace,
) -> Result<ProgramEntry, TraceError> {
    let text = format!("{base}/program.mil");
    writer.add(&text, program.text.as_bytes())?;
    let mut weights = BTreeMap::new();
    for (i, (path, bytes)) in program.weights.iter().enumerate() {
        let name = format!("{base}/weights/{i}.bin");
        writer.add(&name, bytes)?;
        weights.insert(path.clone(), name);
    }
    let mut runs = vec![];
    for (i, run) in program.runs.iter().enumerate() {
        let mut side = |side: &str, ports: &[Port], arrays: &[Array]| {
            (arrays.iter().take(ports.len()).enumerate())
                .map(|(at, array)| {
                    let name = format!("{base}/runs/{i}/{side}/{}", file_name(ports, at));
                    writer.add(&name, &npy::to_bytes(array)?)?;
                    Ok(name)
                })
                .collect::<Result<Vec<_>, TraceError>>()
        };
        let inputs = side("inputs", &program.inputs, &run.inputs)?;
        let outputs = side("outputs", &program.outputs, &run.outputs)?;
        let (call, seconds) = (run.call.clone(), run.seconds);
        runs.push(RunEntry { call, seconds, inputs, outputs });
    }
    Ok(ProgramEntry {
        text,
        weights,
        compile_seconds: program.compile_seconds,
        inputs: program.inputs.iter().map(PortEntry::of).collect(),
        outputs: program.outputs.iter().map(PortEntry::of).collect(),
        runs,
    })
}

fn read_program(
    archive: &zip::Archive<'_>,
    entry: &ProgramEntry,
) -> Result<ProgramTrace, TraceError> {
    let text = String::from_utf8(archive.read(&entry.text)?)
        .map_err(|_| TraceError::Manifest(format!("names `{}`, which is not text", entry.text)))?;
    let weights = (entry.weights.iter())
        .map(|(path, name)| Ok((path.clone(), archive.read(name)?)))
        .collect::<Result<_, TraceError>>()?;
    let ports = |entries: &[PortEntry]| -> Result<Vec<Port>, TraceError> {
        entries.iter().map(PortEntry::port).collect()
    };
    let (inputs, outputs) = (ports(&entry.inputs)?, ports(&entry.outputs)?);
    let runs = (entry.runs.iter())
        .map(|run| {
            Ok(RunTrace {
                call: run.call.clone(),
                seconds: run.seconds,
                inputs: read_arrays(archive, &inputs, &run.inputs)?,
                outputs: read_arrays(archive, &outputs, &run.outputs)?,
            })
        })
        .collect::<Result<_, TraceError>>()?;
    let compile_seconds = entry.compile_seconds;
    Ok(ProgramTrace { text, weights, compile_seconds, inputs, outputs, runs })
}

fn read_arrays(
    archive: &zip::Archive<'_>,
    ports: &[Port],
    names: &[String],
) -> Result<Vec<Array>, TraceError> {
    if ports.len() != names.len() {
        let (got, expected) = (names.len(), ports.len());
        return Err(TraceError::Manifest(format!("has {got} arrays for {expected} ports")));
    }
    let read = |(port, name): (&Port, &String)| {
        let array = npy::parse(&archive.read(name)?)?;
        // A device that computes in reference precision holds fp16 tensors in f32.
        let wider = port.ty.dtype == DType::Fp16 && array.ty.dtype == DType::Fp32;
        if array.ty.shape != port.ty.shape || (array.ty.dtype != port.ty.dtype && !wider) {
            return Err(TraceError::Shape {
                entry: name.clone(),
                expected: port.ty.to_string(),
                got: array.ty.to_string(),
            });
        }
        Ok(array)
    };
    ports.iter().zip(names).map(read).collect()
}
