//! The few repository files keepfs writes itself: a tree in a pack of its own, the index that
//! names it, a snapshot. The layout is restic's (its `doc/design.rst`, "Repository Format"):
//!
//! ```text
//! sealed bytes   16 nonce | AES-256-CTR ciphertext | 16 Poly1305-AES tag
//! pack           sealed blob | sealed header | u32 LE length of the sealed header
//! header         per blob: 1 (a plain tree) | u32 LE length of the sealed blob | 32 SHA-256 of it
//! index          sealed JSON: {"packs":[{"id","blobs":[{"id","type","offset","length"}]}]}
//! ```

use super::files::rustic_id;
use crate::backup::engine::Follower;
use crate::backup::files::{FileId, FileKind, RepositoryFile};
use crate::backup::store::Store;
use crate::error::Error;
use crate::random;
use aes256ctr_poly1305aes::aead::Aead;
use aes256ctr_poly1305aes::{Aes256CtrPoly1305Aes, Key, Nonce};
use rustic_core::TreeId;
use rustic_core::repofile::Tree;

/// What the header calls an uncompressed tree blob.
const PLAIN_TREE: u8 = 1;

/// Stores a tree, its pack and its index.
pub fn store_tree(
    store: &Store,
    master_key: &[u8],
    tree: Tree,
    follower: &dyn Follower,
) -> Result<TreeId, Error> {
    let (json, id) =
        tree.serialize().map_err(|error| Error::Backup(format!("cannot write a tree: {error}")))?;
    let blob = FileId::of(&json);
    let (pack, length) = tree_pack(master_key, &json, blob)?;
    let pack_id = FileId::of(&pack);
    let index = index_of(pack_id, blob, length).to_string();
    let index = seal(master_key, index.as_bytes())?;
    for (kind, content) in [(FileKind::Pack, &pack), (FileKind::Index, &index)] {
        let file = RepositoryFile { kind, id: FileId::of(content), size: content.len() as u64 };
        store.write(kind, file.id, &[content])?;
        follower.stored(file);
    }
    debug_assert_eq!(id.into_inner(), rustic_id(blob), "a tree is named by its SHA-256");
    Ok(id)
}

/// Encrypts and authenticates. `master_key` is [`crate::backup::credentials::Credentials`]' one.
pub fn seal(master_key: &[u8], plain: &[u8]) -> Result<Vec<u8>, Error> {
    let nonce = random::bytes::<16>()?;
    let sealed = Aes256CtrPoly1305Aes::new(Key::from_slice(master_key))
        .encrypt(Nonce::from_slice(&nonce), plain)
        .map_err(|_| Error::Backup("cannot encrypt".into()))?;
    Ok([&nonce[..], &sealed].concat())
}

/// A pack of one tree, and the length of its sealed blob.
fn tree_pack(master_key: &[u8], tree: &[u8], id: FileId) -> Result<(Vec<u8>, u32), Error> {
    let mut pack = seal(master_key, tree)?;
    let length = u32::try_from(pack.len())
        .map_err(|_| Error::Backup("a tree is over 4 GiB: the stream is too large".into()))?;
    let header = [&[PLAIN_TREE][..], &length.to_le_bytes(), &id.0].concat();
    let header = seal(master_key, &header)?;
    pack.extend_from_slice(&header);
    pack.extend_from_slice(&(header.len() as u32).to_le_bytes());
    Ok((pack, length))
}

fn index_of(pack: FileId, blob: FileId, length: u32) -> serde_json::Value {
    let blob = serde_json::json!({"id": blob, "type": "tree", "offset": 0, "length": length});
    serde_json::json!({"packs": [{"id": pack, "blobs": [blob]}]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_the_key_only_and_untouched_only() {
        let key = random::bytes::<64>().unwrap();
        let sealed = seal(&key, b"plain").unwrap();
        assert_eq!(sealed.len(), 16 + 5 + 16);
        let open = |key: &[u8], sealed: &[u8]| {
            Aes256CtrPoly1305Aes::new(Key::from_slice(key))
                .decrypt(Nonce::from_slice(&sealed[..16]), &sealed[16..])
        };
        assert_eq!(open(&key, &sealed).unwrap(), b"plain");
        assert!(open(&[7; 64], &sealed).is_err());
        let mut touched = sealed;
        touched[18] ^= 1;
        assert!(open(&key, &touched).is_err());
    }

    #[test]
    fn a_pack_ends_with_its_header() {
        let key = random::bytes::<64>().unwrap();
        let (pack, length) = tree_pack(&key, b"{}", FileId::of(b"{}")).unwrap();
        assert_eq!(length as usize, 2 + 32);
        assert_eq!(pack[pack.len() - 4..], (37u32 + 32).to_le_bytes());
        assert_eq!(pack.len(), 2 + 32 + 37 + 32 + 4);
    }
}
