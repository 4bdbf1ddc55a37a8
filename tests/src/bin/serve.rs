//! The whole command line as a test build: what `majordomo` does, with crash points. The chaos program
//! starts it where the process itself is what is looked at: its logs, its memory, its answers.

fn main() -> std::process::ExitCode {
    supervisor::cli::main_with(Vec::new())
}
