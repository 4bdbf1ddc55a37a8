//! What the chaos program does: parts, each of which harms real processes in one way, again and again,
//! and compares what is left with the world's ledger. Each prints lines of result, and each has a
//! negative control: a mutant, or a setting, with which the same part must find something wrong.

mod answering;
mod approvals;
mod canaries;
mod crash;
mod doors;
mod fleet;
mod forgery;
mod herd;
mod house;
mod money;
mod outage;
mod pace;
mod power;
mod replicas;
mod waits;
mod zombie;

use std::path::Path;

use shared::clock::stopwatch;

use crate::life::Programs;

/// What a part is told.
#[derive(Clone, Debug)]
pub struct Plan {
    /// As often as it takes to be sure, instead of as often as it takes to notice.
    pub full: bool,
    /// What chance is made of.
    pub seed: u64,
    /// The binaries.
    pub programs: Programs,
}

impl Plan {
    /// A plan for the binaries in this folder.
    pub fn new(full: bool, seed: u64, folder: &Path) -> Self {
        Self {
            full,
            seed,
            programs: Programs::beside(folder),
        }
    }

    /// One number or the other.
    pub(crate) fn times(&self, short: u32, full: u32) -> u32 {
        match self.full {
            true => full,
            false => short,
        }
    }

    /// Chance for a part; the same again for the same seed.
    pub(crate) fn chance(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed)
    }
}

/// What a part found: a line for people, and whether it is as it must be.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Figures, denominators, the control.
    pub line: String,
    /// Whether it holds.
    pub holds: bool,
}

/// The parts by name, in the order in which they are done.
pub const PARTS: [&str; 14] = [
    "crash",
    "zombie",
    "outage",
    "disk",
    "replicas",
    "power",
    "herd",
    "waits",
    "approvals",
    "doors",
    "pace",
    "forgery",
    "canaries",
    "money",
];

/// Does one part and prints its findings. Whether all hold.
pub async fn part(name: &str, plan: &Plan) -> bool {
    let watch = stopwatch();
    let findings = match name {
        "crash" => crash::run(plan).await,
        "zombie" => zombie::run(plan).await,
        "outage" => outage::run(plan).await,
        "disk" => outage::full_disk(plan).await,
        "replicas" => replicas::run(plan).await,
        "power" => power::run(plan).await,
        "herd" => herd::run(plan).await,
        "waits" => waits::run(plan).await,
        "approvals" => approvals::run(plan).await,
        "doors" => doors::run(plan).await,
        "pace" => pace::run(plan).await,
        "forgery" => forgery::run(plan).await,
        "canaries" => canaries::run(plan).await,
        "money" => money::run(plan).await,
        _ => {
            eprintln!("chaos: there is no part {name}; there are {PARTS:?}");
            return false;
        }
    };
    let mut holds = true;
    for finding in findings {
        let word = match finding.holds {
            true => "ok  ",
            false => "FAIL",
        };
        println!("{word} {name:9} {} (seed {})", finding.line, plan.seed);
        holds &= finding.holds;
    }
    eprintln!("     {name:9} took {:.1} s", watch.seconds());
    holds
}
