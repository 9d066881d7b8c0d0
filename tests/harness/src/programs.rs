//! Programs that work on the mount as users' programs do: Python ones of `tests/programs`, and tools.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::{Finished, Running, run};
use crate::requirements::skip;

const PROGRAM_LIMIT: Duration = Duration::from_secs(240);

/// A program to be, with its arguments.
#[derive(Debug)]
pub struct Program(Command);

impl Program {
    /// A few lines of Python, for system calls that no tool makes; arguments are `sys.argv[1:]`.
    pub fn python_line(text: &str) -> Self {
        let mut command = Command::new("python3");
        command.args(["-B", "-c", text]);
        Self(command)
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, value: impl AsRef<OsStr>) -> Self {
        self.0.arg(value);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, values: impl IntoIterator<Item = S>) -> Self {
        self.0.args(values);
        self
    }

    /// Sets the folder it starts in.
    #[must_use]
    pub fn within(mut self, directory: impl AsRef<Path>) -> Self {
        self.0.current_dir(directory);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    /// Runs it to its end, within minutes.
    pub fn run(self) -> Finished {
        self.run_within(PROGRAM_LIMIT)
    }

    /// Runs it to its end, at most for `limit`.
    pub fn run_within(mut self, limit: Duration) -> Finished {
        run(&mut self.0, limit)
    }

    /// Starts it.
    pub fn start(mut self) -> Running {
        Running::start(&mut self.0)
    }

    /// The command itself, to be started in the background.
    pub fn into_command(self) -> Command {
        self.0
    }
}

pub(crate) fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The Python of the project's `.venv`, or the one `FUSED_TEST_PYTHON` names.
fn interpreter() -> PathBuf {
    match std::env::var_os("FUSED_TEST_PYTHON") {
        Some(path) => path.into(),
        None => project().join(".venv/bin/python"),
    }
}

/// A program of `tests/programs`.
///
/// # Panics
/// When `scripts/test` never prepared the Python environment.
pub fn python(name: &str) -> Program {
    let interpreter = interpreter();
    assert!(
        interpreter.exists(),
        "{} is missing: scripts/test makes it",
        interpreter.display()
    );
    let mut command = Command::new(interpreter);
    command
        .arg("-B")
        .arg(project().join("tests/programs").join(name));
    Program(command)
}

/// A program of `tests/programs` that needs torch; None, counted as a skip, where it is not installed.
pub fn torch_python(name: &str) -> Option<Program> {
    if !has_torch(&interpreter()) {
        skip("torch is not installed in .venv (scripts/test installs it)");
        return None;
    }
    let mut program = python(name);
    program.0.env("PYTHONWARNINGS", "ignore");
    Some(program)
}

/// Looks instead of importing: that alone takes seconds.
fn has_torch(interpreter: &Path) -> bool {
    let libraries = interpreter
        .parent()
        .and_then(Path::parent)
        .map(|home| home.join("lib"));
    let versions = libraries
        .and_then(|lib| lib.read_dir().ok())
        .into_iter()
        .flatten()
        .flatten();
    versions
        .into_iter()
        .any(|version| version.path().join("site-packages/torch").is_dir())
}

/// A tool that `scripts/test` has built, or one from PATH; None, counted as a skip, where it is not installed.
pub fn tool(name: &str) -> Option<Program> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let built = project().join("target/tools/bin");
    let mut places = std::iter::once(built).chain(std::env::split_paths(&path));
    if let Some(place) = places.find(|place| place.join(name).exists()) {
        return Some(Program(Command::new(place.join(name))));
    }
    skip(&format!("{name} is not installed"));
    None
}
