//! The way to a peer that comes back, or has moved.

use super::{connected, eventually, identity, member, pair, run};
use keepfs::peers::Listener;
use keepfs::tree::ReplicaId;

#[test]
fn a_peer_that_comes_back_is_found_again() {
    let (one, two) = pair(identity(1), identity(2));
    connected(&one, &two, 2);
    let address = two.peers.address().to_string();
    let members = [member(1, &one.peers.address().to_string()), member(2, &address)];
    drop(two);
    eventually("noticed", || {
        one.say(2, 1);
        one.heard.unreachable.lock().contains(&ReplicaId(2))
    });
    let again = run(Listener::bind(&address).unwrap(), identity(2), &members);
    connected(&one, &again, 2);
}

/// The old connection may be as good as ever.
#[test]
fn a_peer_that_has_moved_is_dialled_at_its_new_address() {
    let (one, two) = pair(identity(1), identity(2));
    connected(&one, &two, 2);
    let listener = Listener::bind("127.0.0.1:0").unwrap();
    let address = listener.address().to_string();
    let moved = run(listener, identity(2), &[member(1, "127.0.0.1:1"), member(2, &address)]);
    let members = vec![member(1, &one.peers.address().to_string()), member(2, &address)];
    one.peers.set_members(members, one.heard.clone()).unwrap();
    connected(&one, &moved, 2);
}
