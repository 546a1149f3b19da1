//! Big transfers: whole, or an error that says why.

use super::*;
use keepfs::peers::bulk::BulkHandler;
use std::io::Cursor;

/// Keeps what is pushed; `bad` is refused, `gone` is not there, `short` breaks off.
#[derive(Default)]
pub struct Shelf(pub Mutex<Vec<(ReplicaId, String, Vec<u8>)>>);

impl BulkHandler for Shelf {
    fn receive(
        &self,
        from: ReplicaId,
        name: &str,
        length: u64,
        data: &mut dyn Read,
    ) -> io::Result<Vec<u8>> {
        if name == "bad" {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        let mut bytes = Vec::new();
        data.read_to_end(&mut bytes)?;
        assert_eq!(bytes.len() as u64, length);
        let receipt = crc32fast::hash(&bytes).to_le_bytes().to_vec();
        self.0.lock().push((from, name.into(), bytes));
        Ok(receipt)
    }

    fn fetch(
        &self,
        _: ReplicaId,
        name: &str,
        offset: u64,
        length: u64,
    ) -> io::Result<(u64, Box<dyn Read + Send>)> {
        match name {
            "gone" => Err(ErrorKind::NotFound.into()),
            "short" => Ok((1000, Box::new(Cursor::new(vec![1; 10])))),
            _ => {
                let bytes = pattern(3 << 20).split_off(offset as usize);
                let length = length.min(bytes.len() as u64);
                Ok((length, Box::new(Cursor::new(bytes))))
            }
        }
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| ((at * 31) >> 3) as u8).collect()
}

#[test]
fn a_push_is_whole_and_comes_back_with_a_receipt() {
    let (one, two) = pair(identity(1), identity(2));
    let shelf = Arc::new(Shelf::default());
    two.peers.bulk().serve("shelf", shelf.clone());
    let bulk = one.peers.bulk();
    for length in [0, 1, 256 << 10, (3 << 20) + 17] {
        let bytes = pattern(length);
        let receipt =
            bulk.push(ReplicaId(2), "shelf", "book", length as u64, &mut bytes.as_slice()).unwrap();
        assert_eq!(receipt, crc32fast::hash(&bytes).to_le_bytes());
        assert_eq!(shelf.0.lock().pop().unwrap(), (ReplicaId(1), "book".into(), bytes));
    }
    let bytes = pattern(9 << 20);
    let refused =
        bulk.push(ReplicaId(2), "shelf", "bad", bytes.len() as u64, &mut bytes.as_slice());
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("No space left"), "{refused}");
    let unknown = bulk.push(ReplicaId(2), "other", "x", 0, &mut io::empty()).unwrap_err();
    assert!(unknown.to_string().contains("takes no `other`"), "{unknown}");
    let source = bulk.push(ReplicaId(2), "shelf", "cut", 100, &mut &bytes[..10]).unwrap_err();
    assert_eq!(source.kind(), ErrorKind::UnexpectedEof);
    std::thread::sleep(Duration::from_millis(100));
    assert!(shelf.0.lock().is_empty(), "half a book is no book");
}

#[test]
fn a_fetch_gives_the_range_or_an_error() {
    let (one, two) = pair(identity(1), identity(2));
    two.peers.bulk().serve("shelf", Arc::new(Shelf::default()));
    let fetch = |name: &str, offset, length| -> io::Result<Vec<u8>> {
        let (said, mut data) =
            one.peers.bulk().fetch(ReplicaId(2), "shelf", name, offset, length)?;
        let mut bytes = Vec::new();
        data.read_to_end(&mut bytes)?;
        assert_eq!(bytes.len() as u64, said);
        Ok(bytes)
    };
    let whole = pattern(3 << 20);
    assert_eq!(fetch("any", 0, u64::MAX).unwrap(), whole);
    assert_eq!(fetch("any", 1 << 20, 1000).unwrap(), whole[1 << 20..(1 << 20) + 1000]);
    assert_eq!(fetch("gone", 0, 1).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(fetch("short", 0, 1000).is_err());
}
