//! AdamW's settings by kind of parameter.

use super::{AdamW, Optimizer, Update};
use gpt::{Done, Group, Param};
use serde::{Deserialize, Serialize};

/// AdamW for all parameters but the matrices of the layers, with settings by [`Group`]. What a setting
/// gives as weight decay applies to all parameters of the group.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdamWGroups {
    /// Of the token embedding, which may be the classifier too, and of learned positions.
    pub embedding: AdamW,
    /// Of a classifier that is not the embedding.
    pub classifier: AdamW,
    /// Of value embeddings.
    pub value_embedding: AdamW,
    /// Of vectors: gains and biases.
    pub vector: AdamW,
    /// Of the factors of the stream before layers.
    pub residual_scale: AdamW,
    /// Of the factors of the first stream.
    pub skip_scale: AdamW,
    /// Of smear and backout.
    pub smear: AdamW,
}

impl Default for AdamWGroups {
    /// As AdamW alone with its default settings.
    fn default() -> Self {
        AdamWGroups::all(AdamW::default())
    }
}

impl AdamWGroups {
    /// As AdamW alone: the same settings for all, and decay of tables only.
    pub fn all(adamw: AdamW) -> Self {
        let other = AdamW { weight_decay: 0.0, ..adamw };
        AdamWGroups {
            embedding: adamw,
            classifier: adamw,
            value_embedding: adamw,
            vector: other,
            residual_scale: other,
            skip_scale: other,
            smear: other,
        }
    }

    /// Changes the settings of every group.
    pub fn change(&mut self, change: impl Fn(&mut AdamW)) {
        let AdamWGroups { embedding, classifier, value_embedding, vector, .. } = self;
        [embedding, classifier, value_embedding, vector].into_iter().for_each(&change);
        let AdamWGroups { residual_scale, skip_scale, smear, .. } = self;
        [residual_scale, skip_scale, smear].into_iter().for_each(change);
    }

    /// The settings of `group`.
    ///
    /// # Panics
    /// For the matrices of the layers.
    pub fn of(&self, group: Group) -> &AdamW {
        match group {
            Group::Embedding => &self.embedding,
            Group::Classifier => &self.classifier,
            Group::ValueEmbedding => &self.value_embedding,
            Group::Vector => &self.vector,
            Group::ResidualScale => &self.residual_scale,
            Group::SkipScale => &self.skip_scale,
            Group::Smear => &self.smear,
            Group::Matrix => unreachable!("matrices of layers have an optimizer of their own"),
        }
    }
}

impl Optimizer for AdamWGroups {
    fn state_of(&self, param: &Param) -> Vec<(&'static str, Vec<usize>)> {
        self.of(param.group).state_of(param)
    }

    fn step(
        &self,
        update: &Update,
        param: &Param,
        w: &mut [f32],
        g: &[f32],
        state: &mut [&mut [f32]],
    ) {
        self.step_by_parts(update, param, w, g, state, &|_, _| ());
    }

    fn step_by_parts(
        &self,
        update: &Update,
        param: &Param,
        w: &mut [f32],
        g: &[f32],
        state: &mut [&mut [f32]],
        done: &Done<'_>,
    ) {
        let [m, v] = state else { unreachable!("every parameter has two tensors") };
        let Update { t, lr, scale, .. } = *update;
        self.of(param.group).update(t, lr, scale, true, w, g, m, v, done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Progress;
    use gpt::{GptConfig, Layout};

    /// p = [.5, −.25, .1], g = [.3, −.2, .01], then −1.5 times that, at rate 0.01.
    #[test]
    fn follows_the_published_numbers_with_the_settings_of_its_group() {
        let settings = AdamW { beta1: 0.8, beta2: 0.95, epsilon: 1e-10, weight_decay: 0.1 };
        let groups = AdamWGroups { vector: settings, ..AdamWGroups::default() };
        let layout = Layout::new(&GptConfig::preset("tiny").unwrap());
        let mut gain = layout.params().iter().find(|p| p.group == Group::Vector).unwrap().clone();
        gain.shape = vec![3];
        let (mut w, mut m, mut v) = ([0.5f32, -0.25, 0.1], [0.0f32; 3], [0.0f32; 3]);
        for (t, sign, expected) in [
            (1, 1.0f32, [0.4895, -0.23975, 0.0899]),
            (2, -1.5, [0.492_046_263, -0.242_546_013, 0.092_845_863]),
        ] {
            let g = [0.3, -0.2, 0.01].map(|g: f32| g * sign);
            let update = Update { t, lr: 0.01, scale: 1.0, progress: Progress::default() };
            groups.step(&update, &gain, &mut w, &g, &mut [&mut m, &mut v]);
            for (got, want) in w.iter().zip(expected) {
                assert!((f64::from(*got) - want).abs() < 1e-6 * want.abs(), "{w:?}");
            }
        }
    }
}
