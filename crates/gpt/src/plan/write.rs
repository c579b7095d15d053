//! Writes the schedule of a plan: the steps block by block, and the arrays that streams go through.

use super::joined::of_block;
use super::schedule::{Index, Schedule, Sink, Source, Step, Value};
use super::{Kernel, Pass, Place, inputs, outputs, port};
use crate::block::stream_of;
use crate::declare::Block;
use crate::ops::Dims;
use crate::params::{Layout, Param};
use mil::Function;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// A block as the forward pass ran it.
#[derive(Clone, Copy)]
struct Stage {
    block: Block,
    /// Its layer; 0 for what belongs to none.
    layer: usize,
    /// The array of the stream that it read.
    stream: usize,
    /// The array of the other stream that it read, if it mixes two.
    earlier: usize,
}

/// The writer of a schedule.
pub(super) struct Writer<'d> {
    dims: &'d Dims<'d>,
    layout: Layout,
    /// Elements of parameters by port and layer: a deep model asks for each often.
    parameters: BTreeMap<(&'static str, Option<usize>), Range<usize>>,
    schedule: Schedule,
    /// Names of values that each layer keeps: parameters, caches, and what the forward pass saves.
    kept: BTreeSet<String>,
    trains: bool,
    /// True if the engine keeps the stream from layer to layer.
    joined: bool,
    at: Arrays,
}

/// Arrays in use, by what they hold.
#[derive(Default)]
struct Arrays {
    /// Streams that later blocks read: the first one and that in the middle.
    first: Option<usize>,
    middle: Option<usize>,
    /// Rows looked up by the token before, and those for the values of each layer.
    before: Option<usize>,
    rows: BTreeMap<usize, usize>,
    /// What is added to the values, and the cotangent of their rows: of one layer after the other.
    gated: Option<usize>,
    d_rows: Option<usize>,
    /// The cotangent of the stream, and those of `before`, `first` and `middle`.
    cotangent: usize,
    d_before: Option<usize>,
    d_first: Option<usize>,
    d_middle: Option<usize>,
    /// An array that held a stream or its cotangent.
    spare: Option<usize>,
}

impl<'d> Writer<'d> {
    pub(super) fn new(programs: Vec<Kernel>, dims: &'d Dims<'d>) -> Self {
        let layout = Layout::new(dims.config);
        let of = |pass, names: fn(&Function) -> Vec<String>| -> BTreeSet<String> {
            let kernels = programs.iter().filter(|kernel| kernel.pass == pass);
            let names = kernels.flat_map(|kernel| names(&kernel.function));
            names.map(|name| port(&name).0.to_owned()).collect()
        };
        let saved = of(Pass::Forward, outputs);
        let read = of(Pass::Backward, inputs);
        let mut kept: BTreeSet<String> = saved.intersection(&read).cloned().collect();
        kept.extend(["kcache", "vcache", "wcls"].map(str::to_owned));
        // Streams that the engine reads again in the backward pass.
        let backward = programs.iter().filter(|k| k.pass == Pass::Backward);
        let engine = backward.filter(|k| k.place == Place::Engine);
        let streams = engine.flat_map(|k| {
            let stream = stream_of(k.block);
            inputs(&k.function).into_iter().filter(move |name| port(name).0 == stream)
        });
        kept.extend(streams.map(|name| port(&name).0.to_owned()));
        kept.extend(layout.params().iter().map(|p| p.port.to_owned()));
        let trains = programs.iter().any(|kernel| kernel.pass == Pass::Backward);
        let joined = programs.iter().any(|kernel| kernel.block == Block::Layers);
        let of_head = layout.params().iter().filter(|p| p.block == Block::Head);
        let of_head = of_head.map(Param::range).chain([layout.classifier()]);
        let schedule = Schedule {
            programs,
            values: vec![],
            arrays: vec![],
            forward: vec![],
            backward: vec![],
            updates: vec![],
            parameters: vec![],
            head: [dims.config.vocab_size, dims.config.n_embd, dims.tokens()],
            head_parameters: of_head.collect(),
            index: BTreeMap::new(),
        };
        let parameters = layout.params().iter().map(|p| ((p.port, p.layer), p.range())).collect();
        let at = Arrays::default();
        Writer { dims, layout, parameters, schedule, kept, trains, joined, at }
    }

    pub(super) fn write(mut self) -> Schedule {
        self.declare();
        if self.trains {
            self.update();
        }
        let mut stream = self.gather();
        if self.joined {
            self.layers(stream);
            return self.schedule;
        }
        let mut stages = vec![];
        for (block, layer) in self.blocks() {
            let (mixes, to) = (self.dims.config.mixes(block), self.after(stream, block));
            let stage = Stage { block, layer, stream, earlier: self.earlier(block) };
            if mixes {
                self.mix(stage, to)
            } else {
                self.forward_block(stage, to)
            }
            stages.push(stage);
            stream = to;
            self.remember(stage, stream);
        }
        self.head(stream);
        if self.trains {
            self.at.cotangent = self.array(self.dims.config.n_embd);
            self.head_backward(stream);
            for stage in stages.into_iter().rev() {
                self.backward_stage(stage);
            }
            self.join(self.at.d_first);
            self.scatter();
        }
        self.schedule
    }

    fn update(&mut self) {
        let update = |(param, p): (usize, &Param)| {
            let (range, port, layer) = (p.range(), p.port, p.layer);
            Step::Update { param, range, port, layer }
        };
        self.schedule.updates = self.layout.params().iter().enumerate().map(update).collect();
    }

    /// All layers, where the engine keeps the stream that the host gives it in the array `stream`.
    fn layers(&mut self, stream: usize) {
        let to = self.value("x", 0);
        self.schedule.forward.push(Step::Load { from: stream, to });
        let runs = self.joined_runs(Pass::Forward);
        let steps = runs.iter().map(|&(program, layer)| Step::Run { program, layer });
        self.schedule.forward.extend(steps);
        self.head(stream);
        self.at.cotangent = stream;
        self.head_backward(stream);
        for (program, first) in self.joined_runs(Pass::Backward).into_iter().rev() {
            self.schedule.backward.push(Step::Run { program, layer: first });
            for layer in (first..first + self.schedule.programs[program].span).rev() {
                for block in [Block::FeedForward, Block::Attention] {
                    let stage = Stage { block, layer, stream, earlier: 0 };
                    for program in self.programs((layer, block), Pass::Backward, Place::Host) {
                        let step = self.host(program, stage, &|_, _| unreachable!("a gradient"));
                        self.schedule.backward.push(step);
                    }
                }
            }
            self.accumulate(program, first);
        }
        let (from, to) = (self.value("d_x", 0), stream);
        self.schedule.backward.push(Step::Unload { from, to });
        self.scatter();
    }

    /// The runs of programs of layers in one pass, first layers first: program and first layer.
    fn joined_runs(&self, pass: Pass) -> Vec<(usize, usize)> {
        let joined = |(_, k): &(usize, &Kernel)| k.block == Block::Layers && k.pass == pass;
        let programs = self.schedule.programs.iter().enumerate().filter(joined);
        let of = |(index, k): (usize, &Kernel)| {
            k.layers.iter().map(|&layer| (index, layer)).collect::<Vec<_>>()
        };
        let mut runs: Vec<_> = programs.flat_map(of).collect();
        runs.sort_by_key(|&(_, layer)| layer);
        runs
    }

    /// Runs the programs of the engine of a block that belongs to no layer.
    fn around(&self, block: Block, pass: Pass) -> impl Iterator<Item = Step> + use<> {
        let programs = self.programs((0, block), pass, Place::Engine).into_iter();
        programs.map(|program| Step::Run { program, layer: 0 })
    }

    /// The probabilities of tokens, where the engine computes them.
    fn token_probs(&self) -> Option<usize> {
        self.schedule.find("token_probs", 0)
    }

    fn head(&mut self, stream: usize) {
        let Some(probs) = self.token_probs() else {
            return self.schedule.forward.push(Step::Head { stream });
        };
        let to = self.value(stream_of(Block::Head), 0);
        let runs: Vec<Step> = [Block::Head, Block::Classifier]
            .into_iter()
            .flat_map(|block| self.around(block, Pass::Forward))
            .collect();
        if !self.joined {
            self.schedule.forward.push(Step::Load { from: stream, to });
        }
        self.schedule.forward.extend(runs);
        self.schedule.forward.push(Step::Losses { probs });
    }

    fn head_backward(&mut self, stream: usize) {
        let to = self.at.cotangent;
        let Some(probs) = self.token_probs() else {
            return self.schedule.backward.push(Step::HeadBackward { stream, to });
        };
        let d_stream = self.value(&format!("d_{}", stream_of(Block::Head)), 0);
        let engine = [Block::Classifier, Block::Head]
            .map(|block| self.programs((0, block), Pass::Backward, Place::Engine));
        let mut engine = engine.concat();
        engine.sort_unstable();
        let runs = engine.iter().map(|&program| Step::Run { program, layer: 0 });
        let cotangents = Step::Cotangents { probs, to: self.value("d_logits", 0) };
        self.schedule.backward.push(cotangents);
        self.schedule.backward.extend(runs);
        if !self.joined {
            self.schedule.backward.push(Step::Unload { from: d_stream, to });
        }
        let stage = Stage { block: Block::Classifier, layer: 0, stream, earlier: 0 };
        for program in self.programs((0, Block::Classifier), Pass::Backward, Place::Host) {
            let step = self.host(program, stage, &|_, name| panic!("`{name}` is no parameter"));
            self.schedule.backward.push(step);
        }
        for program in engine {
            self.accumulate(program, 0);
        }
    }

    /// All blocks in order, with their layers.
    fn blocks(&self) -> Vec<(Block, usize)> {
        let config = self.dims.config;
        let layers = (0..config.n_layer).flat_map(|l| {
            [Block::Mix, Block::Attention, Block::FeedForward].map(|block| (block, l))
        });
        let all = [(Block::Embedding, 0)].into_iter().chain(layers).chain([(Block::Backout, 0)]);
        let has =
            |block| matches!(block, Block::Attention | Block::FeedForward) || config.mixes(block);
        all.filter(|&(block, _)| has(block)).collect()
    }

    /// A new array of `channels` channels.
    fn array(&mut self, channels: usize) -> usize {
        self.schedule.arrays.push(channels);
        self.schedule.arrays.len() - 1
    }

    /// The array of the stream after `block`, which reads the one in `from`. Where nothing is saved, blocks
    /// add to it in place, unless a later one reads it.
    fn after(&mut self, from: usize, block: Block) -> usize {
        let config = self.dims.config;
        let later = [self.at.first, self.at.middle];
        if self.trains || later.contains(&Some(from)) {
            return self.array(config.n_embd);
        }
        if config.mixes(block) { self.other(from) } else { from }
    }

    /// Where nothing is saved: an array for a stream that is none of those in use.
    fn other(&mut self, used: usize) -> usize {
        let other = self.at.spare.take().unwrap_or_else(|| self.array(self.dims.config.n_embd));
        self.at.spare = Some(used);
        other
    }

    /// The array of the other stream that `block` reads; its own where it reads one alone.
    fn earlier(&self, block: Block) -> usize {
        let found = match block {
            Block::Embedding => self.at.before,
            Block::Mix => self.at.first,
            Block::Backout => self.at.middle,
            _ => None,
        };
        found.unwrap_or_default()
    }

    /// Notes the stream after a block if a later one reads it.
    fn remember(&mut self, stage: Stage, stream: usize) {
        let config = self.dims.config;
        if stage.block == Block::Embedding && config.mixes(Block::Mix) {
            self.at.first = Some(stream);
        }
        let last = (stage.block, stage.layer) == (Block::FeedForward, config.n_layer / 2);
        if last && config.mixes(Block::Backout) {
            self.at.middle = Some(stream);
        }
    }

    /// Lists the values that the programs of the engine exchange with anyone.
    fn declare(&mut self) {
        let config = self.dims.config;
        let engine: Vec<Kernel> =
            self.schedule.engine().map(|(_, kernel)| kernel.clone()).collect();
        let ports = engine.iter().flat_map(|kernel| {
            let f = &kernel.function;
            f.inputs().chain(f.outputs.iter().copied()).map(move |id| (kernel, f.value(id)))
        });
        let mut owned = BTreeMap::new();
        for (kernel, mil::Value { name: port_name, ty }) in ports {
            let (base, further) = port(port_name);
            let numbered = base != port_name;
            let of_pass = engine.iter().filter(|other| other.pass == kernel.pass);
            let span = of_pass.map(|kernel| kernel.span).max().unwrap_or(1);
            for &layer in &kernel.layers {
                let at = layer + further;
                // After the last layer, the stream is the one that the head reads.
                let (name, of) = match base {
                    "x" if at == config.n_layer => (stream_of(Block::Head), 0),
                    "d_x" if at == config.n_layer => ("d_x_last", 0),
                    name => (name, at),
                };
                let owner = self.owner(name, of);
                // What no layer keeps has two places: the host reads those of one run while the engine writes
                // those of the next.
                let turn = owner.is_none() && numbered && name == base;
                let place = turn.then(|| at % (2 * span));
                let values = &mut self.schedule.values;
                let value = *owned.entry((name.to_owned(), owner, place)).or_insert_with(|| {
                    values.push(Value { name: name.to_owned(), layer: owner, ty: ty.clone() });
                    values.len() - 1
                });
                // A program of several layers has one port for a table that all share.
                let users = if numbered { at..at + 1 } else { layer..layer + kernel.span };
                for user in users {
                    self.schedule.index.insert((user, base.to_owned()), value);
                }
            }
        }
        let parameters = self.layout.params().iter().filter_map(|p| {
            let value = self.schedule.find(p.port, p.layer.unwrap_or(0))?;
            Some((value, p.range()))
        });
        let classifier = self.schedule.find("wcls", 0).map(|wcls| (wcls, self.layout.classifier()));
        self.schedule.parameters = parameters.chain(classifier).collect();
    }

    /// The layer whose value called `name` `layer` uses; none if all layers share one.
    fn owner(&self, name: &str, layer: usize) -> Option<usize> {
        if name == "mask" {
            return Some(first_alike(self.dims, layer));
        }
        self.kept.contains(name).then_some(layer)
    }

    fn value(&self, name: &str, layer: usize) -> usize {
        self.schedule.value(name, layer)
    }

    fn kind(&self, layer: usize) -> usize {
        self.dims.config.kind(layer)
    }

    /// Indices of the programs of a block of `layer`.
    fn programs(&self, (layer, block): (usize, Block), pass: Pass, place: Place) -> Vec<usize> {
        let programs = self.schedule.programs.iter().enumerate();
        let wanted = (self.kind(layer), block, pass, place);
        let chosen = programs.filter(|(_, k)| (k.kind, k.block, k.pass, k.place) == wanted);
        chosen.map(|(index, _)| index).collect()
    }

    /// The tables whose rows make the first stream.
    fn tables(&self) -> Vec<(Range<usize>, Index)> {
        let table = |port, by| self.layout.find(port, None).map(|p| (p.range(), by));
        [table("embedding", Index::Token), table("positions", Index::Position)]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Looks up the first stream, and returns its array.
    fn gather(&mut self) -> usize {
        let config = self.dims.config;
        let to = self.array(config.n_embd);
        for (n, (table, by)) in self.tables().into_iter().enumerate() {
            self.schedule.forward.push(Step::Gather { table, by, add: n > 0, to });
        }
        if config.nanochat.smear_channels > 0 {
            let (table, before) = (self.layout.embedding(), self.array(config.n_embd));
            let by = Index::Preceding;
            self.schedule.forward.push(Step::Gather { table, by, add: false, to: before });
            self.at.before = Some(before);
        }
        if !config.mixes(Block::Embedding) && config.mixes(Block::Mix) {
            self.at.first = Some(to);
        }
        to
    }

    fn scatter(&mut self) {
        // A tied classifier has written its gradient before.
        let tied = self.layout.classifier().start == self.layout.embedding().start;
        for (table, by) in self.tables() {
            let fresh = by != Index::Token || !tied;
            let from = self.at.cotangent;
            self.schedule.backward.push(Step::Scatter { table, by, fresh, from });
        }
        if let Some(from) = self.at.d_before {
            let (table, by) = (self.layout.embedding(), Index::Preceding);
            self.schedule.backward.push(Step::Scatter { table, by, fresh: false, from });
        }
    }

    fn mix(&mut self, stage: Stage, to: usize) {
        for program in self.programs((stage.layer, stage.block), Pass::Forward, Place::Host) {
            let step = self.host(program, stage, &|_, _| Sink::Array { to, add: false });
            self.schedule.forward.push(step);
        }
    }

    fn forward_block(&mut self, stage: Stage, to: usize) {
        let Stage { block, layer, stream: from, .. } = stage;
        let stream = self.value(stream_of(block), layer);
        self.schedule.forward.push(Step::Load { from, to: stream });
        for program in self.programs((layer, block), Pass::Forward, Place::Host) {
            self.values(program, stage);
        }
        for program in self.programs((layer, block), Pass::Forward, Place::Engine) {
            self.schedule.forward.push(Step::Run { program, layer });
            for (new, cache) in [("k", "kcache"), ("v", "vcache")] {
                let reads = inputs(&self.schedule.programs[program].function);
                if reads.iter().any(|name| name == cache) {
                    let (value, cache) = (self.value(new, layer), self.value(cache, layer));
                    self.schedule.forward.push(Step::Append { value, cache });
                }
            }
        }
        let value = self.value(&self.output(layer, block), layer);
        self.schedule.forward.push(Step::Add { value, from, to });
    }

    /// Looks up rows for the values of a layer, and has `program` gate them for the engine.
    fn values(&mut self, program: usize, stage: Stage) {
        let (layer, channels) = (stage.layer, self.dims.config.kv_dim());
        // Where nothing is saved, layers share the array.
        let known = self.at.rows.values().next().copied().filter(|_| !self.trains);
        let to = known.unwrap_or_else(|| self.array(channels));
        self.at.rows.insert(layer, to);
        let table = self.value_table(layer);
        self.schedule.forward.push(Step::Gather { table, by: Index::Token, add: false, to });
        let gated = self.at.gated.unwrap_or_else(|| self.array(channels));
        self.at.gated = Some(gated);
        let step = self.host(program, stage, &|_, _| Sink::Array { to: gated, add: false });
        self.schedule.forward.push(step);
        let to = self.value("gated", layer);
        self.schedule.forward.push(Step::Load { from: gated, to });
    }

    fn value_table(&self, layer: usize) -> Range<usize> {
        let found = self.layout.find("value_embeds", Some(layer));
        found.expect("a layer with gates has a table").range()
    }

    /// Name of what a block adds to the stream.
    fn output(&self, layer: usize, block: Block) -> String {
        let program = self.programs((layer, block), Pass::Forward, Place::Engine);
        let last = *program.last().expect("a block has a forward program");
        outputs(&self.schedule.programs[last].function).swap_remove(0)
    }

    fn backward_stage(&mut self, stage: Stage) {
        let config = self.dims.config;
        if (stage.block, stage.layer) == (Block::FeedForward, config.n_layer / 2) {
            self.join(self.at.d_middle);
        }
        if stage.block == Block::Embedding {
            let first = self.at.d_first.take();
            self.join(first);
        }
        if config.mixes(stage.block) { self.unmix(stage) } else { self.backward_block(stage) }
    }

    /// Adds a cotangent to that of the stream.
    fn join(&mut self, from: Option<usize>) {
        let to = self.at.cotangent;
        self.schedule.backward.extend(from.map(|from| Step::Join { from, to }));
    }

    /// The cotangents of the two streams that a block mixed.
    fn unmix(&mut self, stage: Stage) {
        let width = self.dims.config.n_embd;
        for program in self.programs((stage.layer, stage.block), Pass::Backward, Place::Host) {
            let gives = outputs(&self.schedule.programs[program].function);
            let has = |name: &str| gives.iter().any(|known| known == name);
            let known = *self.of_earlier(stage.block);
            let of_earlier = match known {
                None if has("d_earlier") => Some(self.array(width)),
                known => known,
            };
            *self.of_earlier(stage.block) = of_earlier;
            let add = known.is_some();
            let to = if has("d_x") { self.other(self.at.cotangent) } else { self.at.cotangent };
            let step = self.host(program, stage, &|_, name| match (name, of_earlier) {
                ("earlier", Some(to)) => Sink::Array { to, add },
                _ => Sink::Array { to, add: false },
            });
            self.schedule.backward.push(step);
            self.at.cotangent = to;
        }
    }

    /// The array of the cotangent of the other stream that `block` reads.
    fn of_earlier(&mut self, block: Block) -> &mut Option<usize> {
        match block {
            Block::Embedding => &mut self.at.d_before,
            Block::Mix => &mut self.at.d_first,
            _ => &mut self.at.d_middle,
        }
    }

    fn backward_block(&mut self, stage: Stage) {
        let Stage { block, layer, .. } = stage;
        let seed = format!("d_{}", self.output(layer, block));
        let to = self.value(&seed, layer);
        self.schedule.backward.push(Step::Load { from: self.at.cotangent, to });
        let engine = self.programs((layer, block), Pass::Backward, Place::Engine);
        for &program in &engine {
            self.schedule.backward.push(Step::Run { program, layer });
        }
        let (stream_rows, gradients): (Vec<_>, Vec<_>) = self
            .programs((layer, block), Pass::Backward, Place::Host)
            .into_iter()
            .partition(|&program| self.gives_stream(program, block));
        for program in gradients {
            let step = self.host(program, stage, &|_, name| panic!("`{name}` is no parameter"));
            self.schedule.backward.push(step);
        }
        for &program in &engine {
            self.accumulate(program, layer);
        }
        // The cotangent changes last: gradients of this block read it as it was.
        if engine.iter().any(|&program| self.gives_stream(program, block)) {
            let (value, to) =
                (self.value(&format!("d_{}", stream_of(block)), layer), self.at.cotangent);
            self.schedule.backward.push(Step::Add { value, from: to, to });
        }
        for program in stream_rows {
            self.norm_backward(program, stage);
        }
    }

    /// The parameter that `layer` reads by `port`, if it is one.
    fn parameter(&self, port: &str, layer: usize) -> Option<Range<usize>> {
        if port == "wcls" {
            return Some(self.layout.classifier());
        }
        let of = |layer| self.parameters.get(&(port, layer)).cloned();
        of(Some(layer)).or_else(|| of(None))
    }

    fn gives_stream(&self, program: usize, block: Block) -> bool {
        let cotangent = format!("d_{}", stream_of(block));
        outputs(&self.schedule.programs[program].function).contains(&cotangent)
    }

    /// Gradients of parameters among the outputs of a program of the engine.
    fn accumulate(&mut self, program: usize, layer: usize) {
        for name in outputs(&self.schedule.programs[program].function) {
            let (of, further) = port(name.strip_prefix("d_").unwrap_or_default());
            if let Some(gradient) = self.parameter(of, layer + further) {
                let value = self.value(&name, layer);
                self.schedule.backward.push(Step::Accumulate { value, gradient });
            }
        }
    }

    /// Adds to the cotangent of the stream; what rows for the values get, goes back to their table.
    fn norm_backward(&mut self, program: usize, stage: Stage) {
        let gives = outputs(&self.schedule.programs[program].function);
        let looks_up = gives.iter().any(|name| name == "d_values");
        if looks_up && self.at.d_rows.is_none() {
            self.at.d_rows = Some(self.array(self.dims.config.kv_dim()));
        }
        let rows = self.at.d_rows.filter(|_| looks_up);
        let step = self.host(program, stage, &|writer, name| match (name, rows) {
            ("values", Some(to)) => Sink::Array { to, add: false },
            _ => Sink::Array { to: writer.at.cotangent, add: true },
        });
        self.schedule.backward.push(step);
        if let Some(from) = rows {
            let table = self.value_table(stage.layer);
            let by = Index::Token;
            self.schedule.backward.push(Step::Scatter { table, by, fresh: true, from });
        }
    }

    /// A program of the host; `array` is where the results go that are not gradients of parameters: the
    /// cotangents of the inputs it is asked for, or in the forward pass values.
    fn host(&self, program: usize, stage: Stage, array: &dyn Fn(&Self, &str) -> Sink) -> Step {
        let Stage { block, layer, stream, earlier } = stage;
        let function = &self.schedule.programs[program].function;
        let parameter = |port: &str| self.parameter(port, layer);
        let source = |name: String| match &name[..] {
            name if name == stream_of(block) => Source::Array(stream),
            "earlier" => Source::Array(earlier),
            "values" => Source::Array(self.at.rows[&layer]),
            "d_mixed" => Source::Array(self.at.cotangent),
            name => match parameter(name) {
                Some(range) => Source::Parameter(range),
                None if self.joined => {
                    let (name, further) = of_block(name);
                    Source::Value(self.value(name, layer + further))
                }
                None => Source::Value(self.value(name, layer)),
            },
        };
        let sink = |name: String| {
            let of = name.strip_prefix("d_").unwrap_or(&name);
            parameter(of).map_or_else(|| array(self, of), Sink::Gradient)
        };
        let of_layer = !matches!(block, Block::Embedding | Block::Backout | Block::Classifier);
        Step::Host {
            program,
            layer: of_layer.then_some(layer),
            inputs: inputs(function).into_iter().map(source).collect(),
            outputs: outputs(function).into_iter().map(sink).collect(),
        }
    }
}

/// The first layer whose window is that of `layer`: they share a mask.
fn first_alike(dims: &Dims<'_>, layer: usize) -> usize {
    let window = |layer| dims.config.window(layer);
    (0..layer).find(|&other| window(other) == window(layer)).unwrap_or(layer)
}
