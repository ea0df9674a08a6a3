//! Slow hashes of master keys, of this system and of older ones.

use argon2::{Argon2, Params, PasswordHash, PasswordVerifier};
use bcrypt::HashParts;

/// What a hash may cost to verify: one that asks for more was not made by any sane system, and would keep this one busy.
const MAX_BCRYPT_COST: u32 = 15;
const MAX_ARGON2_MEMORY_KIB: u32 = 256 * 1024;
const MAX_ARGON2_ITERATIONS: u32 = 16;
const MAX_ARGON2_LANES: u32 = 16;

/// All that bcrypt reads of a key: of two longer ones with the same beginning it could not tell which was meant.
const MAX_BCRYPT_KEY_BYTES: usize = 72;

/// Whether `hash` is one of this key. Argon2id and bcrypt are recognised; anything else is no hash of any key.
pub(crate) fn is_of(hash: &str, key: &str) -> bool {
    if hash.starts_with("$argon2id$") {
        is_argon2id_of(hash, key)
    } else if ["$2a$", "$2b$", "$2y$"].iter().any(|kind| hash.starts_with(kind)) {
        is_bcrypt_of(hash, key)
    } else {
        false
    }
}

fn is_argon2id_of(hash: &str, key: &str) -> bool {
    let Ok(hash) = PasswordHash::new(hash) else { return false };
    let is_bearable = Params::try_from(&hash).is_ok_and(|params| {
        params.m_cost() <= MAX_ARGON2_MEMORY_KIB
            && params.t_cost() <= MAX_ARGON2_ITERATIONS
            && params.p_cost() <= MAX_ARGON2_LANES
    });
    is_bearable && Argon2::default().verify_password(key.as_bytes(), &hash).is_ok()
}

fn is_bcrypt_of(hash: &str, key: &str) -> bool {
    let is_bearable = hash.parse::<HashParts>().is_ok_and(|parts| parts.get_cost() <= MAX_BCRYPT_COST);
    is_bearable && key.len() <= MAX_BCRYPT_KEY_BYTES && bcrypt::verify(key, hash).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use argon2::{Algorithm, PasswordHasher, Version};

    use super::*;

    fn argon2(memory_kib: u32, algorithm: Algorithm) -> String {
        let params = Params::new(memory_kib, 1, 1, None).unwrap();
        let hash: PasswordHash = Argon2::new(algorithm, Version::V0x13, params).hash_password(b"key").unwrap();
        hash.to_string()
    }

    fn bcrypt(key: &str) -> String {
        // With a salt given, so that the system's randomness is not asked for.
        bcrypt::hash_with_salt(key, 4, [7; 16]).unwrap().to_string()
    }

    #[test]
    fn both_kinds_of_hashes_are_recognised() {
        let modern = bcrypt("key");
        let (older, php) = (modern.replacen("$2b$", "$2a$", 1), modern.replacen("$2b$", "$2y$", 1));
        for hash in [argon2(64, Algorithm::Argon2id), modern, older, php] {
            assert!(is_of(&hash, "key"), "{hash}");
            assert!(!is_of(&hash, "Key"), "{hash}");
        }
    }

    #[test]
    fn what_is_no_such_hash_or_costs_too_much_is_of_no_key() {
        let costly = bcrypt("key").replacen("$04$", "$31$", 1);
        let large = argon2(64, Algorithm::Argon2id).replacen("m=64,", "m=4194304,", 1);
        let cut = argon2(64, Algorithm::Argon2id).chars().take(40).collect();
        let others = [costly, large, cut, argon2(64, Algorithm::Argon2i), "key".to_owned(), String::new()];
        for hash in others.into_iter().chain(["$2b$".to_owned(), "$2b$04$short".to_owned(), "$argon2id$".to_owned()]) {
            assert!(!is_of(&hash, "key"), "{hash}");
        }
    }

    #[test]
    fn a_key_longer_than_bcrypt_reads_matches_nothing() {
        let (known, longer) = ("k".repeat(72), "k".repeat(73));
        assert!(is_of(&bcrypt(&known), &known));
        assert!(!is_of(&bcrypt(&known), &longer));
    }
}
