//! What integration tests stand on: an engine with a program and hands of the test's own
//! ([`engine`]), and real instances of the product around a scripted model.

/// Settings with which agents do all that they can without asking anybody.
const FREE: &str = "[[approvals.rules]]\nthen = \"allow\"\n";
/// Settings with which work that cannot go on ends at once.
const UNAIDED: &str = "[escalation]\nwithin_h = 0\n";

/// These settings, and that nobody is asked or waited for, except where they say themselves who is.
pub fn unasked(settings: &str) -> String {
    let mut settings = format!("{settings}\n");
    for (section, without) in [("[approvals", FREE), ("[escalation", UNAIDED)] {
        if !settings.contains(section) {
            settings.push_str(without);
        }
    }
    settings
}

pub mod app;
pub mod chaos;
pub mod doubles;
pub mod engine;
pub mod faults;
pub mod life;
pub mod model;
pub mod money;
pub mod place;
pub mod tool;
pub mod wait;
pub mod world;
