//! Named places at which a test build can be made to die, as a power cut or `kill -9` would have it.
//!
//! `crash_point!("append.after")` is nothing at all unless the feature `crash-points` is on. Then the
//! environment decides: with `MAJORDOMO_CRASH=name:n` the process kills itself with SIGKILL when it
//! comes to the place of this name for the n-th time; with `MAJORDOMO_CRASH=*:n`, at the n-th place of
//! any name. `MAJORDOMO_PAUSE`, of the same form, stops it there with SIGSTOP until somebody lets it go
//! on. A test program may also say so as it goes, by `arm`. `MAJORDOMO_CRASH_LOG` names a file that gets a line for each place passed.

/// Marks a place at which a test build may die.
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {
        $crate::crash::passed($name)
    };
}

/// Nothing, in a build that people use.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn passed(_name: &'static str) {}

/// From now on this process dies at this place, `name:n`, counted from here; whatever was planned before
/// is not. Nothing, in a build that people use.
#[cfg(feature = "crash-points")]
pub fn arm(plan: &str) {
    armed::arm(plan);
}

/// Counts the place and dies where the environment, or [`arm`], says so.
#[cfg(feature = "crash-points")]
pub fn passed(name: &'static str) {
    armed::passed(name);
}

#[cfg(feature = "crash-points")]
#[expect(
    clippy::expect_used,
    reason = "test builds only: a crash test must not go on unarmed"
)]
mod armed {
    use std::fs::File;
    use std::io::Write;
    use std::sync::{LazyLock, Mutex};

    struct Plan {
        name: String,
        at: u64,
        signal: &'static str,
        seen: u64,
    }

    impl Plan {
        fn parse(plan: &str, signal: &'static str) -> Self {
            let (name, at) = plan.split_once(':').expect("a crash plan is name:n");
            Self {
                name: name.into(),
                at: at.parse().expect("a crash plan is name:n"),
                signal,
                seen: 0,
            }
        }

        fn of(variable: &str, signal: &'static str) -> Option<Self> {
            let plan = std::env::var(variable).ok()?;
            Some(Self::parse(&plan, signal))
        }

        /// Whether this is the place.
        fn comes_to(&mut self, name: &str) -> bool {
            if self.name != "*" && self.name != name {
                return false;
            }
            self.seen += 1;
            self.seen == self.at
        }
    }

    static PLAN: LazyLock<Mutex<Option<Plan>>> = LazyLock::new(|| {
        // SIGKILL: no destructor runs and no buffer is flushed.
        let crash = Plan::of("MAJORDOMO_CRASH", "-KILL");
        Mutex::new(crash.or_else(|| Plan::of("MAJORDOMO_PAUSE", "-STOP")))
    });

    static LOG: LazyLock<Option<Mutex<File>>> = LazyLock::new(|| {
        let path = std::env::var_os("MAJORDOMO_CRASH_LOG")?;
        let file = File::options().create(true).append(true).open(path);
        Some(Mutex::new(file.expect("the crash log can be opened")))
    });

    pub(super) fn arm(plan: &str) {
        *PLAN.lock().expect("nobody panics with the plan") = Some(Plan::parse(plan, "-KILL"));
    }

    pub(super) fn passed(name: &'static str) {
        if let Some(log) = &*LOG {
            let mut log = log.lock().expect("nobody panics with the log");
            writeln!(log, "{name}").expect("the crash log can be written");
        }
        let signal = {
            let mut plan = PLAN.lock().expect("nobody panics with the plan");
            let Some(plan) = plan.as_mut() else { return };
            if !plan.comes_to(name) {
                return;
            }
            plan.signal
        };
        let me = std::process::id().to_string();
        let _ = std::process::Command::new("kill")
            .args([signal, &me])
            .status();
        if signal == "-KILL" {
            std::thread::sleep(std::time::Duration::from_secs(60));
        }
    }
}

/// A mutant for negative controls: whether the effect class is ignored at recovery.
pub fn ignores_effects() -> bool {
    mutant("ignore-effects")
}

/// A mutant for negative controls: whether a worker goes on after its lease, and takes no notice of
/// writes that are refused.
pub fn ignores_fence() -> bool {
    mutant("ignore-fence")
}

/// A mutant for negative controls: whether commits of the embedded store wait for no disk.
pub fn ignores_syncs() -> bool {
    mutant("sync-normal")
}

/// A mutant for negative controls: whether answers are posted, instead of made out of messages whose
/// ids are recorded.
pub fn posts_answers() -> bool {
    mutant("post-answers")
}

/// A mutant for negative controls: whether each call to somebody who waits for a task's end bears an id
/// of its own, instead of the task's.
pub fn renames_calls() -> bool {
    mutant("rename-calls")
}

fn mutant(name: &str) -> bool {
    cfg!(feature = "crash-points")
        && std::env::var_os("MAJORDOMO_MUTANT").is_some_and(|mutant| mutant == name)
}
