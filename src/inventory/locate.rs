use std::path::{Path, PathBuf};

use super::InventoryError;

/// What an inventory file is called where it is looked for.
pub const FILE_NAME: &str = "wsfleet.toml";

/// Finds the inventory: in the working directory, or else in the folder `wsfleet` of the configuration folder.
///
/// # Errors
/// There is none; `why` says in the message what it was needed for.
pub fn find_inventory(
    working_directory: &Path,
    config_folder: Option<&Path>,
    why: &str,
) -> Result<PathBuf, InventoryError> {
    let mut searched = vec![working_directory.join(FILE_NAME)];
    searched.extend(config_folder.map(|folder| folder.join("wsfleet").join(FILE_NAME)));
    // What exists and can not be read is found all the same: the message then names the true reason.
    match searched.iter().find(|file| file.symlink_metadata().is_ok()) {
        Some(found) => Ok(found.clone()),
        None => Err(InventoryError::NoInventory { why: why.to_owned(), searched }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_working_directory_comes_before_the_configuration_folder() {
        let (here, config) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let find = || find_inventory(here.path(), Some(config.path()), "for a test");
        let message = find().unwrap_err().to_string();
        assert!(message.contains("for a test") && message.contains("--inventory"), "{message}");
        assert!(message.contains(&here.path().join("wsfleet.toml").display().to_string()), "{message}");

        std::fs::create_dir(config.path().join("wsfleet")).unwrap();
        std::fs::write(config.path().join("wsfleet/wsfleet.toml"), "").unwrap();
        assert_eq!(find().unwrap(), config.path().join("wsfleet/wsfleet.toml"));
        std::fs::write(here.path().join("wsfleet.toml"), "").unwrap();
        assert_eq!(find().unwrap(), here.path().join("wsfleet.toml"));
    }
}
