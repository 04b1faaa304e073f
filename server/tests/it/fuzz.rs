//! Everything that reads what isn't ours, fed with the corpus that fuzzing has left (`make fuzz`). Here without a fuzzer: each
//! target is an ordinary function, which panics if an invariant doesn't hold.

use std::fs;
use std::path::Path;

#[expect(
    unreachable_pub,
    reason = "it is the library of the fuzzing targets, too"
)]
#[path = "../../../fuzz/src/lib.rs"]
mod targets;

#[test]
fn every_target_holds_on_its_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for (name, target) in targets::TARGETS {
        let files = fs::read_dir(corpus.join(name)).unwrap();
        let mut count = 0;
        for file in files {
            let file = file.unwrap().path();
            println!("{}", file.display());
            target(&fs::read(file).unwrap());
            count += 1;
        }
        assert!(count > 0, "{name} has no corpus");
    }
}
