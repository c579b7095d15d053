//! What a family declares: parts of a model, their parameters, and how these begin.

/// Which part of a model a parameter belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Block {
    /// From tokens to the stream.
    Embedding,
    /// Before a layer: the stream with a share of the first one.
    Mix,
    /// Attention with its norm.
    Attention,
    /// The feed-forward network with its norm.
    FeedForward,
    /// Both of one layer or several, where a plan joins them to one program.
    Layers,
    /// After the last layer: the stream without a share of that in the middle.
    Backout,
    /// From the last stream to logits: the last norm, and the parameters of the classifier.
    Head,
    /// From the normalised stream to probabilities of tokens, where a plan gives it to the engine.
    Classifier,
}

/// The kind of a parameter, for an optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// Rows that are looked up: one per token or position.
    Embedding,
    /// A projection within a layer.
    Matrix,
    /// A gain or a bias.
    Vector,
    /// The classifier, where it is not the embedding.
    Classifier,
    /// Rows that are looked up by token and added to the values of a layer.
    ValueEmbedding,
    /// The factor of the stream before a layer.
    ResidualScale,
    /// The factor of the first stream, which is mixed in before a layer.
    SkipScale,
    /// Gate and factor of smear, factor of backout.
    Smear,
}

impl Group {
    /// True for tables whose rows are looked up.
    pub fn is_table(self) -> bool {
        matches!(self, Group::Embedding | Group::ValueEmbedding)
    }

    /// True if weight decay applies: to matrices and tables, not to gains, biases, gates and factors of
    /// the stream.
    pub fn decays(self) -> bool {
        self.is_table() || matches!(self, Group::Matrix | Group::Classifier)
    }
}

/// How a parameter begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// With this value everywhere.
    Constant(f32),
    /// Normal with mean 0 and this standard deviation.
    Normal(f32),
    /// Uniform between these.
    Uniform(f32, f32),
}

/// Standard deviation of initial weights (GPT-2).
const DEVIATION: f32 = 0.02;

/// A parameter as a family declares it.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared {
    /// Its name in programs.
    pub port: &'static str,
    /// The part of the model that it belongs to.
    pub block: Block,
    /// Layer, for those that belong to one.
    pub layer: Option<usize>,
    /// Extents, row-major: [out, in] or `[n]`.
    pub shape: Vec<usize>,
    /// How it begins.
    pub init: Init,
    /// Its kind, for an optimizer.
    pub group: Group,
}

impl Declared {
    /// A matrix [out, in] whose initial values have `share` times the usual deviation.
    pub fn matrix(port: &'static str, block: Block, shape: [usize; 2], share: f32) -> Self {
        let init = Init::Normal(DEVIATION * share);
        Declared { port, block, layer: None, shape: shape.to_vec(), init, group: Group::Matrix }
    }

    /// Rows that are looked up, [rows, D].
    pub fn table(port: &'static str, block: Block, shape: [usize; 2]) -> Self {
        Declared { group: Group::Embedding, ..Self::matrix(port, block, shape, 1.0) }
    }

    /// Factors, few and not decayed.
    pub fn factors(port: &'static str, block: Block, shape: Vec<usize>, group: Group) -> Self {
        Declared { port, block, layer: None, shape, init: Init::Constant(0.0), group }
    }

    /// One number for each of the `out` channels of [out, in].
    pub fn vector(port: &'static str, block: Block, [out, _]: [usize; 2], init: Init) -> Self {
        let shape = vec![out];
        Declared { port, block, layer: None, shape, init, group: Group::Vector }
    }
}

/// Where a parameter lies in a checkpoint of its family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Name of the tensor; parameters of one name lie in it one after the other, along the outputs.
    pub name: String,
    /// True if the tensor is [in, out].
    pub transposed: bool,
}

impl Tensor {
    /// The tensor of `port` in a table of names, to which `prefix` is added.
    ///
    /// # Panics
    /// If the table does not have the port.
    pub fn named(names: &[(&str, &str)], port: &str, prefix: Option<String>) -> Self {
        let found = names.iter().find(|(known, _)| *known == port);
        let (_, name) = found.unwrap_or_else(|| panic!("the family has a name for `{port}`"));
        Tensor { name: prefix.unwrap_or_default() + name, transposed: false }
    }
}
