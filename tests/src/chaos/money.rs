//! The ledger against the far side's count, over ten thousand calls with retries, cancels, cut calls and
//! processes that end in the middle. The control is a far side that counts a call more, or a cent.

use super::{Finding, Plan};
use crate::money::{Scale, Tally, work};
use crate::place::Kind;

pub(super) async fn run(plan: &Plan) -> Vec<Finding> {
    let scale = match plan.full {
        true => Scale::FULL,
        false => Scale::SHORT,
    };
    let mut findings = Vec::new();
    for kind in [Kind::Folder, Kind::Database] {
        let mut tally = work(&kind.place().await, scale).await;
        for wrong in tally.wrong() {
            println!("     {wrong}");
        }
        let (line, holds) = (tally.to_string(), tally.wrong().is_empty());
        let mut found = 0;
        for tamper in [Tally::count_one_more, Tally::count_a_cent_more] {
            tamper(&mut tally);
            found += u32::from(!tally.wrong().is_empty());
            tally.undo();
        }
        findings.push(Finding {
            line: format!("{kind:?}: {line}; control: {found} of 2 miscounts found"),
            holds: holds && found == 2,
        });
    }
    findings
}
