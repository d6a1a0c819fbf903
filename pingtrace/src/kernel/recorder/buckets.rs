//! Buckets of a quarter of an octave: the inverse of `bucket_of` in `bpf/include/bucket.h`.

/// Steps of an octave.
const STEPS: u64 = 4;

/// The shortest time of a bucket, ns; behind the last one, all there is.
pub fn bound(bucket: u64) -> u64 {
    if bucket < STEPS {
        return bucket;
    }
    let (octave, step) = (bucket / STEPS + 1, bucket % STEPS);
    if octave >= u64::from(u64::BITS) {
        return u64::MAX;
    }
    (1 << octave) + (step << (octave - 2))
}

#[cfg(test)]
mod as_root {
    use super::*;
    use bpf::recorder::types::pt_hist;
    use kit_bpf::buckets::BucketsSkelBuilder;
    use libbpf_rs::ProgramInput;
    use libbpf_rs::skel::{OpenSkel, SkelBuilder};
    use std::mem::MaybeUninit;

    /// Each bucket's first and last nanosecond are in it, says the program in the kernel.
    #[test]
    fn every_bucket_is_where_the_kernel_counts() {
        let mut storage = MaybeUninit::uninit();
        let open = BucketsSkelBuilder::default().open(&mut storage).unwrap();
        let mut skel = open.load().unwrap();
        let mut bucket_of = |ns| {
            skel.maps.bss_data.as_deref_mut().unwrap().ns = ns;
            let input = ProgramInput {
                data_in: Some(&[0; 14]),
                ..ProgramInput::default()
            };
            u64::from(skel.progs.bucket.test_run(input).unwrap().return_value)
        };
        let last = bucket_of(u64::MAX);
        assert!((last as usize) < pt_hist::default().counts.len());
        for bucket in 0..=last {
            assert_eq!(bucket_of(bound(bucket)), bucket);
            assert_eq!(bucket_of(bound(bucket + 1) - 1), bucket);
        }
        assert_eq!(bound(last + 1), u64::MAX);
    }
}
