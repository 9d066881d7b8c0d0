//! AWS's profile files, `~/.aws/config` and `~/.aws/credentials`, as far as they are needed here.
//!
//! They are lines of `name = value` below `[section]`s. A profile's section is `[profile NAME]` in the
//! first (`[default]` for the default one) and `[NAME]` in the second, which wins. Indented lines below
//! a name are its own settings; of those `addressing_style` below `s3` is used. Profiles that get their
//! credentials by other means (single sign-on, an external process, assumed roles) aren't supported.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Settings;
use crate::error::SettingsError;

/// The profile in force, its settings under the names that the environment would use; empty if there
/// is none.
pub(super) fn read(settings: &Settings) -> Result<BTreeMap<String, String>, SettingsError> {
    let place = |variable: &str, name: &str| -> Option<PathBuf> {
        match settings.get(&[variable]) {
            Some(path) => Some(PathBuf::from(path)),
            None => settings.home().map(|home| home.join(".aws").join(name)),
        }
    };
    let config_path = place("aws_config_file", "config");
    let credentials_path = place("aws_shared_credentials_file", "credentials");
    let text = |path: &Option<PathBuf>| {
        path.as_ref()
            .and_then(|path| std::fs::read_to_string(path).ok())
            .unwrap_or_default()
    };
    let asked = settings.get(&["profile", "aws_profile", "aws_default_profile"]);
    let name = asked.unwrap_or("default");

    let mut sections = parse(&text(&config_path));
    let config = if name == "default" {
        sections
            .remove("profile default")
            .or_else(|| sections.remove("default"))
    } else {
        sections.remove(&format!("profile {name}"))
    };
    let credentials = parse(&text(&credentials_path)).remove(name);
    if asked.is_some() && config.is_none() && credentials.is_none() {
        let show = |path: Option<PathBuf>, name: &str| {
            path.map_or_else(
                || format!("~/.aws/{name}"),
                |path| path.display().to_string(),
            )
        };
        return Err(SettingsError::NoSuchProfile {
            profile: name.to_owned(),
            config: show(config_path, "config"),
            credentials: show(credentials_path, "credentials"),
        });
    }
    let mut found = config.unwrap_or_default();
    found.extend(credentials.unwrap_or_default());
    Ok(found
        .into_iter()
        .map(|(name, value)| match name.starts_with("aws_") {
            true => (name, value),
            false => (format!("aws_{name}"), value),
        })
        .collect())
}

/// Sections with their settings; nested ones as `outer.inner`.
fn parse(text: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut sections: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut section = None;
    let mut outer = String::new();
    for line in text.lines() {
        let content = line.split(" #").next().unwrap_or_default().trim();
        if content.is_empty() || content.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = content
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
            sections.entry(name.clone()).or_default();
            section = Some(name);
            continue;
        }
        let (Some(section), Some((name, value))) = (&section, content.split_once('=')) else {
            continue;
        };
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().to_owned());
        let name = if line.starts_with([' ', '\t']) {
            format!("{outer}.{name}")
        } else {
            outer.clone_from(&name);
            name
        };
        sections
            .entry(section.clone())
            .or_default()
            .insert(name, value);
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(config: &str, credentials: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".aws")).unwrap();
        std::fs::write(dir.path().join(".aws/config"), config).unwrap();
        std::fs::write(dir.path().join(".aws/credentials"), credentials).unwrap();
        dir
    }

    const CONFIG: &str = "# mine\n[default]\nregion = eu-west-1\n\n[profile lab]\nregion=lab-1\n\
                          endpoint_url = http://127.0.0.1:9000 # local\ns3 =\n  addressing_style = virtual\n";
    const CREDENTIALS: &str = "[default]\naws_access_key_id = D\n[lab]\naws_access_key_id = L\naws_secret_access_key = a=b\n";

    #[test]
    fn a_named_profile_is_put_together_from_both_files() {
        let dir = home(CONFIG, CREDENTIALS);
        let settings = Settings::from_vars([
            ("HOME", dir.path().to_str().unwrap()),
            ("AWS_PROFILE", "lab"),
        ]);
        let profile = settings.aws_profile().unwrap();
        let get = |name: &str| profile.get(name).map(String::as_str);
        assert_eq!(get("aws_region"), Some("lab-1"));
        assert_eq!(get("aws_endpoint_url"), Some("http://127.0.0.1:9000"));
        assert_eq!(get("aws_access_key_id"), Some("L"));
        assert_eq!(get("aws_secret_access_key"), Some("a=b"));
        assert_eq!(get("aws_s3.addressing_style"), Some("virtual"));
    }

    #[test]
    fn without_a_name_the_default_profile_is_taken() {
        let dir = home(CONFIG, CREDENTIALS);
        let settings = Settings::from_vars([("HOME", dir.path().to_str().unwrap())]);
        let profile = settings.aws_profile().unwrap();
        assert_eq!(
            profile.get("aws_access_key_id").map(String::as_str),
            Some("D")
        );
        assert_eq!(
            profile.get("aws_region").map(String::as_str),
            Some("eu-west-1")
        );
    }

    #[test]
    fn a_profile_that_is_nowhere_is_an_error_only_if_it_was_asked_for() {
        let none = Settings::from_vars([("HOME", "/nonexistent")]);
        assert_eq!(none.aws_profile(), Ok(BTreeMap::new()));
        let asked = Settings::from_vars([("HOME", "/nonexistent"), ("AWS_PROFILE", "x")]);
        assert!(matches!(
            asked.aws_profile(),
            Err(SettingsError::NoSuchProfile { .. })
        ));
    }
}
