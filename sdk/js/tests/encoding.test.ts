import { createHash, randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import * as byHand from '../src/encoding.js';
import * as web from '../src/encoding.web.js';
import { sha256 } from '../src/sha256.js';

test('base64url_is_that_of_rfc_4648', () => {
    for (const { encode, decode } of [byHand, web]) {
        for (let length = 0; length < 100; length++) {
            const bytes = new Uint8Array(randomBytes(length));
            const text = Buffer.from(bytes).toString('base64url');
            expect(encode(bytes)).toBe(text);
            expect(decode(text)).toBe(String.fromCharCode(...bytes));
        }
    }
});

test('forms_leave_out_what_has_no_value', () => {
    for (const { form } of [byHand, web]) {
        const text = `${form({ client_id: 'a b:@&=ü', erase: undefined, ticket: '~._-' })}`;
        expect(Object.fromEntries(new URLSearchParams(text))).toEqual({ client_id: 'a b:@&=ü', ticket: '~._-' });
    }
});

test('sha256_is_that_of_fips_180_4', () => {
    for (let length = 0; length < 300; length++) {
        const bytes = new Uint8Array(randomBytes(length));
        expect(Buffer.from(sha256(bytes)).toString('hex')).toBe(createHash('sha256').update(bytes).digest('hex'));
    }
});
