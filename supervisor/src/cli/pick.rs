//! Which task is meant by the id that a person typed: the whole of it, its first characters, or its
//! last ones. Called by every command that names a task.

use std::str::FromStr;

use shared::id::TaskId;
use shared::store::TaskFilter;

use super::access::Access;
use super::exit::Fault;
use super::words;

/// Fewer characters are a slip rather than an id.
const FEWEST: usize = 4;
/// Tasks that are looked through for an abbreviated id: the newest ones.
const NEWEST: usize = 20_000;
/// Tasks that are read at once.
const PAGE: u32 = 200;

/// The task that is meant.
pub async fn pick(access: &Access, typed: &str) -> anyhow::Result<TaskId> {
    if let Ok(id) = TaskId::from_str(typed) {
        return Ok(id);
    }
    let part = part_of(typed)?;
    let mut filter = TaskFilter {
        limit: PAGE,
        ..TaskFilter::default()
    };
    let (mut found, mut seen) = (Vec::new(), 0);
    while seen < NEWEST {
        let page: Vec<TaskId> = access
            .tasks(&filter)
            .await?
            .iter()
            .map(|task| task.id)
            .collect();
        found.extend(page.iter().filter(|id| matches(**id, &part)));
        seen += page.len();
        filter.before = page.last().copied();
        if page.is_empty() {
            break;
        }
    }
    Ok(only(typed, &found)?)
}

/// The hexadecimal digits of a part of an id.
fn part_of(typed: &str) -> Result<String, Fault> {
    let part = typed.replace('-', "").to_ascii_lowercase();
    let wrong = |why: &str| {
        Err(Fault::usage(format!("{typed:?} is no task id: {why}"))
            .help("`majordomo tasks list` shows the ids"))
    };
    if !part.chars().all(|digit| digit.is_ascii_hexdigit()) {
        return wrong("ids are made of 0-9 and a-f");
    }
    if part.len() < FEWEST {
        return wrong("at least 4 characters of it are needed");
    }
    Ok(part)
}

fn matches(id: TaskId, part: &str) -> bool {
    let id = id.0.simple().to_string();
    id.starts_with(part) || id.ends_with(part)
}

fn only(typed: &str, found: &[TaskId]) -> Result<TaskId, Fault> {
    match found {
        [only] => Ok(*only),
        [] => Err(
            Fault::failed(format!("no task's id begins or ends with {typed}"))
                .help("`majordomo tasks list` shows the newest tasks"),
        ),
        several => {
            let some: Vec<String> = several.iter().take(5).map(|id| words::short(*id)).collect();
            let what = format!("{} tasks are meant by {typed}", several.len());
            let more = if several.len() > some.len() {
                ", …"
            } else {
                ""
            };
            Err(Fault::usage(what).help(format!("one of {}{more}", some.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_an_id_is_enough_where_it_is_the_only_one() {
        let ids = [
            "01980000-0000-7000-8000-00000000abcd",
            "01980000-0001-7000-8000-00000001abcd",
            "01990000-0001-7000-8000-00000001ffff",
        ]
        .map(|id| TaskId::from_str(id).unwrap());
        let pick = |typed: &str| -> Result<TaskId, String> {
            let part = part_of(typed).map_err(|fault| fault.to_string())?;
            let found: Vec<TaskId> = ids.into_iter().filter(|id| matches(*id, &part)).collect();
            only(typed, &found).map_err(|fault| fault.to_string())
        };
        assert_eq!(pick("0199"), Ok(ids[2]));
        assert_eq!(pick("FFFF"), Ok(ids[2]));
        assert_eq!(pick("0abcd"), Ok(ids[0]));
        assert_eq!(pick("0198-0000-0001"), Ok(ids[1]));
        assert!(
            pick("abcd")
                .unwrap_err()
                .starts_with("2 tasks are meant by abcd")
        );
        assert!(
            pick("7000").unwrap_err().starts_with("no task's id"),
            "the middle does not count"
        );
        assert!(pick("fff").unwrap_err().contains("at least 4"));
        assert!(pick("wxyz").unwrap_err().contains("0-9 and a-f"));
    }
}
