//! Chance that follows from a seed: one seed replays one history.

/// A value that differs with each argument, evenly spread (splitmix64).
pub fn mix(seed: u64, number: u64) -> u64 {
    let mut z =
        seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678_9abc_def1);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
