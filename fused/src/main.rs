//! The `fused` program; see the library's `cli` module.

fn main() -> std::process::ExitCode {
    fused::cli::main()
}
