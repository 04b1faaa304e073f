// SHA-256 (FIPS 180-4) for where `crypto.subtle` is missing: in React Native, and in pages over http.

/** Returns the first `count` primes. */
function primes(count: number): number[] {
    const found: number[] = [];
    for (let candidate = 2; found.length < count; candidate++) {
        if (found.every((prime) => candidate % prime)) found.push(candidate);
    }
    return found;
}

const fraction = (value: number): number => ((value % 1) * 2 ** 32) | 0;
const rotate = (word: number, count: number): number => (word >>> count) | (word << (32 - count));

const CONSTANTS = primes(64).map((prime) => fraction(Math.cbrt(prime)));
const START = primes(8).map((prime) => fraction(Math.sqrt(prime)));

/** Hashes `data`. */
export function sha256(data: Uint8Array): Uint8Array {
    const padded = new DataView(new ArrayBuffer(Math.ceil((data.length + 9) / 64) * 64));
    new Uint8Array(padded.buffer).set(data);
    padded.setUint8(data.length, 0x80);
    padded.setUint32(padded.byteLength - 8, data.length / 2 ** 29);
    padded.setUint32(padded.byteLength - 4, data.length << 3);
    const hash = START.slice();
    for (let block = 0; block < padded.byteLength; block += 64) compress(hash, padded, block);
    const bytes = new DataView(new ArrayBuffer(32));
    hash.forEach((word, at) => bytes.setInt32(at * 4, word));
    return new Uint8Array(bytes.buffer);
}

function compress(hash: number[], data: DataView, block: number): void {
    const words: number[] = [];
    let [a, b, c, d, e, f, g, h] = hash as [number, number, number, number, number, number, number, number];
    for (let at = 0; at < 64; at++) {
        words[at] = at < 16 ? data.getInt32(block + at * 4) : expand(words, at);
        const ch = (e & f) ^ (~e & g);
        const maj = (a & b) ^ (a & c) ^ (b & c);
        const first = (h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ch + CONSTANTS[at]! + words[at]!) | 0;
        const second = ((rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + maj) | 0;
        [a, b, c, d, e, f, g, h] = [(first + second) | 0, a, b, c, (d + first) | 0, e, f, g];
    }
    [a, b, c, d, e, f, g, h].forEach((word, at) => (hash[at] = (hash[at]! + word) | 0));
}

function expand(words: number[], at: number): number {
    const [before, early] = [words[at - 2]!, words[at - 15]!];
    const late = rotate(before, 17) ^ rotate(before, 19) ^ (before >>> 10);
    const first = rotate(early, 7) ^ rotate(early, 18) ^ (early >>> 3);
    return (words[at - 16]! + first + words[at - 7]! + late) | 0;
}
