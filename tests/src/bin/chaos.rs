//! The chaos program: `chaos [--full] [--seed N] [PART...]`. Run it by `scripts/chaos`, which finds a
//! Postgres and builds what it starts.

use std::process::ExitCode;

use majordomo_tests::chaos::{PARTS, Plan, part};

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let (mut full, mut seed, mut parts) = (false, None, Vec::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--full" => full = true,
            "--seed" => seed = Some(args.next().unwrap_or_default().parse()?),
            name => parts.push(name.to_owned()),
        }
    }
    if parts.is_empty() {
        parts = PARTS.map(str::to_owned).to_vec();
    }
    let seed = seed.unwrap_or_else(|| fastrand::u64(0..1_000_000));
    let me = std::env::current_exe()?;
    let folder = me.parent().expect("a program stands in a folder");
    let plan = Plan::new(full, seed, folder);
    let mut holds = true;
    for name in &parts {
        holds &= part(name, &plan).await;
    }
    Ok(match holds {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
