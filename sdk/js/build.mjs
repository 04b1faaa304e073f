// Builds what is published: `dist` for bundlers, with its types, and guestpass.min.js for browsers, which the server
// serves as /oauth/guestpass.js. The latter is committed; with `--check` it is compared with what the sources give.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { minify } from 'terser';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const common = { absWorkingDir: here('.'), bundle: true, format: 'esm', target: 'es2020', charset: 'utf8' };

/** Names of members that nobody sees outside. */
const INTERNAL = /^(isOver|isAlone|send|leadsTo|httpStatus|retryAfter|redeem|discard|renew|refreshToken|end)$/;

// Takes what browsers have in place of what is done by hand.
const web = {
  name: 'web',
  setup({ onResolve }) {
    onResolve({ filter: /^\.\/encoding\.js$/ }, () => ({ path: here('src/encoding.web.ts') }));
  },
};

async function buildForBrowsers() {
  const options = {
    entryPoints: ['src/browser.ts'],
    minify: true,
    mangleProps: INTERNAL,
    plugins: [web],
    write: false,
  };
  const [{ text }] = (await build({ ...common, ...options })).outputFiles;
  const compress = { ecma: 2020, passes: 3, unsafe_arrows: true, hoist_funs: true, reduce_funcs: false };
  return (await minify(text, { module: true, compress, format: { ecma: 2020 } })).code;
}

async function buildForBundlers() {
  rmSync(here('dist'), { recursive: true, force: true });
  const entryPoints = { index: 'src/index.ts', mapp: 'mapp/index.ts' };
  await build({ ...common, entryPoints, outdir: 'dist', splitting: true });
  const types = ['--noEmit', 'false', '--declaration', '--emitDeclarationOnly', '--outDir', 'dist/types'];
  execFileSync(process.execPath, [here('node_modules/typescript/bin/tsc'), ...types], {
    cwd: here('.'),
    stdio: 'inherit',
  });
}

const file = here('guestpass.min.js');
const minified = await buildForBrowsers();
if (!process.argv.includes('--check')) {
  writeFileSync(file, minified);
} else if (readFileSync(file, 'utf8') !== minified) {
  console.error('guestpass.min.js is not what the sources give: npm run build');
  process.exitCode = 1;
}
await buildForBundlers();
const hash = createHash('sha384').update(minified).digest('base64');
writeFileSync(here('dist/guestpass.min.js.integrity'), `sha384-${hash}\n`);
