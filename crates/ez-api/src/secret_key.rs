//! The key that encrypts upstream credentials: from the configuration, else a file beside the database.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use ez_contract::secret::SecretKey;
use rand::RngCore;

/// The key file's name in the data directory.
pub(crate) const FILE: &str = "secret.key";

/// Reads the key file where there is one.
pub(crate) fn load(data_dir: &Path) -> anyhow::Result<Option<SecretKey>> {
    let path = data_dir.join(FILE);
    let shown = path.display();
    match fs::read_to_string(&path) {
        Ok(text) => SecretKey::parse(text.trim()).with_context(|| format!("{shown} holds no secret key")).map(Some),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("{shown} cannot be read")),
    }
}

/// Reads the key file, or makes one with mode 0600 at the first start.
pub(crate) fn load_or_create(data_dir: &Path) -> anyhow::Result<SecretKey> {
    if let Some(key) = load(data_dir)? {
        return Ok(key);
    }
    let path = data_dir.join(FILE);
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let mut file = made.with_context(|| {
        format!("{} cannot be made: set EZ_SECRET_KEY or make EZ_DATA_DIR writable", path.display())
    })?;
    writeln!(file, "{}", hex::encode(bytes))?;
    // Losing this file loses every stored credential, so it must reach the disk before anything is encrypted.
    file.sync_all()?;
    fs::File::open(data_dir)?.sync_all()?;
    SecretKey::from_bytes(&bytes).context("a new secret key is 32 bytes")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        load_or_create(dir.path()).unwrap();
        let path = dir.path().join("secret.key");
        let first = fs::read_to_string(&path).unwrap();
        load_or_create(dir.path()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), first);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, "short").unwrap();
        assert!(load_or_create(dir.path()).unwrap_err().to_string().contains("secret.key holds no secret key"));
    }
}
