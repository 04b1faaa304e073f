import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, expect, inject, test, vi } from 'vitest';
import { Browser } from './browser.js';

const MINIFIED = 'guestpass.min.js';

afterEach(() => {
    vi.restoreAllMocks();
});

test('types_are_right', () => {
    for (const project of ['tsconfig.json', 'tests/tsconfig.json']) {
        execFileSync(process.execPath, ['node_modules/typescript/bin/tsc', '--project', project], { stdio: 'pipe' });
    }
});

test('the_browser_build_is_what_the_sources_give', () => {
    execFileSync(process.execPath, ['build.mjs', '--check'], { stdio: 'pipe' });
});

test('the_browser_build_is_small_and_needs_nothing', () => {
    const code = readFileSync(MINIFIED);
    // gzip's own header may hold the name of the file.
    expect(gzipSync(code, { level: 9 }).length + MINIFIED.length + 1).toBeLessThanOrEqual(3000);
    expect(code.toString()).not.toMatch(/\bimport\b(?!\.meta)|\brequire\b|sourceMappingURL/);
    const { dependencies, license, version } = JSON.parse(readFileSync('package.json', 'utf8'));
    const workspace = readFileSync('../../Cargo.toml', 'utf8');
    expect(dependencies).toBeUndefined();
    expect(workspace).toContain(`license = "${license}"`);
    expect(workspace).toContain(`version = "${version}"`);
});

test('the_package_works_as_published', () => {
    const directory = mkdtempSync(join(tmpdir(), 'guestpass-package-'));
    try {
        const pack = ['pack', '--json', '--ignore-scripts', '--pack-destination', directory];
        const [{ filename, files }] = JSON.parse(execFileSync('npm', pack, { encoding: 'utf8' }));
        const names: string[] = files.map(({ path }: { path: string }) => path);
        for (const name of [
            'LICENSE-APACHE',
            'LICENSE-MIT',
            'README.md',
            'dist/guestpass.min.js.integrity',
            'dist/index.js',
            'dist/mapp.js',
            'dist/types/mapp/index.d.ts',
            'dist/types/src/index.d.ts',
            MINIFIED,
            'package.json',
        ]) {
            expect(names).toContain(name);
        }
        expect(
            names.filter((name) => !/^(dist\/|LICENSE-|README\.md|guestpass\.min\.js|package\.json)/.test(name)),
        ).toEqual([]);
        for (const licence of ['LICENSE-APACHE', 'LICENSE-MIT']) {
            expect(readFileSync(licence)).toEqual(readFileSync(`../../${licence}`));
        }
        const integrity = createHash('sha384').update(readFileSync(MINIFIED)).digest('base64');
        expect(readFileSync('dist/guestpass.min.js.integrity', 'utf8')).toBe(`sha384-${integrity}\n`);

        const modules = join(directory, 'node_modules');
        execFileSync('mkdir', ['-p', join(modules, 'guestpass')]);
        execFileSync('tar', [
            '-xzf',
            join(directory, filename),
            '-C',
            join(modules, 'guestpass'),
            '--strip-components=1',
        ]);
        const use = `import { createGuest, secureStore, sha256 } from 'guestpass';
      import { authenticate, refreshToken } from 'guestpass/mapp';
      import { createGuest as minified } from 'guestpass/guestpass.min.js';
      const guest = createGuest({ clientId: 'shop-web' });
      console.log(await guest.who(), guest.state, typeof secureStore, typeof sha256, typeof authenticate, typeof refreshToken, typeof minified);`;
        writeFileSync(join(directory, 'use.mjs'), use);
        const said = execFileSync(process.execPath, ['use.mjs'], { cwd: directory, encoding: 'utf8' });
        expect(said).toBe('null idle function function function function function\n');

        const typed = `import { createGuest, secureStore, type Guest, type State } from 'guestpass';
      import { authenticate, type AuthCredentials } from 'guestpass/mapp';
      const guest: Guest = createGuest({ clientId: 'shop-web', storage: localStorage, consent: async () => true });
      const state: State = guest.state;
      const stop: () => void = guest.onChange((now) => console.log(now?.subn, state));
      const credentials: Promise<AuthCredentials> = authenticate('shop-app', 'shop.example');
      // @ts-expect-error A client's id is needed.
      createGuest({});
      export { credentials, secureStore, stop };`;
        writeFileSync(join(directory, 'typed.ts'), typed);
        const options = [
            '--noEmit',
            '--strict',
            '--target',
            'es2020',
            '--module',
            'esnext',
            '--moduleResolution',
            'bundler',
        ];
        const tsc = resolve('node_modules/typescript/bin/tsc');
        execFileSync(process.execPath, [tsc, ...options, '--types', '', 'typed.ts'], { cwd: directory, stdio: 'pipe' });
    } finally {
        rmSync(directory, { recursive: true, force: true });
    }
});

/** Loads the browser build as if it came from `address`. */
async function load(browser: Browser, address: string, globals: Record<string, unknown> = {}) {
    const page = Object.assign(new EventTarget(), { hidden: false });
    browser.enter(page, new EventTarget());
    vi.stubGlobal('fetch', browser.fetch);
    for (const [name, value] of Object.entries(globals)) vi.stubGlobal(name, value);
    const code = readFileSync(MINIFIED, 'utf8').replaceAll('import.meta.url', JSON.stringify(address));
    return import(/* @vite-ignore */ `data:text/javascript,${encodeURIComponent(`${code}\n// ${Math.random()}`)}`);
}

test('the_script_starts_by_itself_if_its_address_names_a_client', async () => {
    const server = inject('server');
    const browser = new Browser();
    const inert = await load(browser, `${server}/oauth/guestpass.js`);
    expect(inert.guest).toBeUndefined();
    expect(typeof inert.createGuest).toBe('function');
    expect(browser.sent).toEqual([]);

    for (const address of [
        '/oauth/guestpass.js?client_id=shop-web',
        '/api/oauth/guestpass.js?v=2&client_id=shop%2Dweb#top',
    ]) {
        const visitor = new Browser();
        const { guest } = await load(visitor, server + address);
        const known = await guest.who();
        expect(known).not.toBeNull();
        expect(visitor.sent.map(({ path, parameters }) => [path, parameters])).toEqual([
            ['session', { client_id: 'shop-web' }],
            ['session', { client_id: 'shop-web' }],
        ]);
        expect(await guest.who()).toEqual(known);
        const again = await load(visitor, server + address);
        expect(await again.guest.who()).toEqual(known);
    }
});

test('the_script_adopts_a_ticket_of_the_app_and_nothing_else', async () => {
    const app = new Browser().open({ clientId: 'shop-app', storage: new Browser().localStorage });
    const known = await app.guest.who();
    const ticket = await app.guest.ticket('shop-web');
    const address = `${inject('server')}/oauth/guestpass.js?client_id=shop-web`;
    const view = new Browser();
    const { guest } = await load(view, address, { guestpassTicket: ticket });
    expect(await guest.who()).toEqual(known);
    expect(view.sent).toHaveLength(1);

    // One that is spent makes way for a new guest, an element is none, and neither is what an address says.
    for (const [address_, value] of [
        [address, ticket],
        [address, new EventTarget()],
        [`${address}&ticket=${ticket}#ticket=${ticket}`, undefined],
    ] as const) {
        const visitor = new Browser();
        vi.stubGlobal('location', { search: `?ticket=${ticket}`, hash: `#ticket=${ticket}` });
        const { guest } = await load(visitor, address_, { guestpassTicket: value });
        const other = await guest.who();
        expect(other!.sub).not.toBe(known!.sub);
        expect(visitor.sent.filter(({ parameters }) => 'ticket' in parameters)).toHaveLength(value === ticket ? 1 : 0);
    }
});
