//! The shape of `[escalation]`: who is told of work that cannot go on by itself, one after the other, and
//! how long it waits for them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[escalation]`: work that cannot go on by itself waits for a person: an agent that failed again and
/// again or goes round in circles, a provider that is down, a limit that is reached, an effect of which
/// nobody knows whether it happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EscalationSettings {
    /// Hours for which such work waits. After that it ends with what there is; with 0 it ends at once.
    #[schemars(range(min = 0, max = 8760))]
    pub within_h: f64,
    /// Hours after the last rung's time in which nobody decided: then the ladder is climbed anew.
    #[schemars(range(min = 0.01, max = 8760))]
    pub again_h: f64,
    /// Who is told, one rung after the other. With none, all approvers are told at once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rungs: Vec<Rung>,
}

/// `[[escalation.rungs]]`: who is told together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rung {
    /// Who: a person by principal (`"anna"`), a conversation (`"telegram/-100123"`, `"slack/C0123"`), an
    /// address (`"mailto:oncall@example.org"`), or a webhook (`"https://alerts.example.org/hook"`).
    pub to: Vec<String>,
    /// Minutes in which somebody must have decided; then the next rung is told, too. A rung that nothing
    /// reaches gets no time at all.
    #[schemars(range(min = 0.01, max = 10080))]
    pub wait_min: f64,
}

impl Default for Rung {
    fn default() -> Self {
        Self {
            to: Vec::new(),
            wait_min: 15.0,
        }
    }
}

impl Default for EscalationSettings {
    fn default() -> Self {
        Self {
            within_h: 24.0,
            again_h: 4.0,
            rungs: Vec::new(),
        }
    }
}

impl EscalationSettings {
    /// Seconds for which work waits for help; none where it does not.
    pub fn help_within_s(&self) -> Option<u64> {
        let seconds = (self.within_h.clamp(0.0, 8760.0) * 3600.0).ceil() as u64;
        (seconds > 0).then_some(seconds)
    }
}
