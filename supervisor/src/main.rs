//! The `majordomo` binary: the command line and nothing besides.

fn main() -> std::process::ExitCode {
    supervisor::cli::main_with(Vec::new())
}
