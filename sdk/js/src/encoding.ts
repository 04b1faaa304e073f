// By hand, for not every React Native has `btoa`, `atob` and a whole URLSearchParams. Builds for browsers take
// `encoding.web.ts` in its place.

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

/** Encodes without padding (RFC 4648 §5). */
export const encode = (bytes: Uint8Array): string =>
    regroup([...bytes], 8, /.{1,6}/g)
        .map((index) => ALPHABET[index])
        .join('');

/** Decodes to a string of bytes. */
export const decode = (text: string): string =>
    String.fromCharCode(
        ...regroup(
            [...text].map((letter) => ALPHABET.indexOf(letter)),
            6,
            /.{8}/g,
        ),
    );

/** Turns numbers of so many bits into numbers of as many as `group` matches. */
function regroup(numbers: number[], bits: number, group: RegExp): number[] {
    const digits = numbers.map((number) => number.toString(2).padStart(bits, '0')).join('');
    return (digits.match(group) || []).map((some) => parseInt(some.padEnd(6, '0'), 2));
}

/** Encodes what has a value, as a form. */
export const form = (parameters: Record<string, string | undefined>): string =>
    Object.entries(parameters)
        .map(([name, value]) => (value ? `${name}=${encodeURIComponent(value)}` : ''))
        .join('&');

export const formHeaders = { 'Content-Type': 'application/x-www-form-urlencoded' };
