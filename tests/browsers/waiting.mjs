// Waiting without a verdict by the clock: the deadlines are longer than anything takes on the busiest
// machine.
export const DEADLINE_MS = 60_000;

// Waits until the scripts of a page have run: a driver may say that it is loaded before its modules have.
export async function isLoaded(page) {
  await until(() => page.run(() => document.readyState === 'complete' && window.loaded !== false), 'loaded');
}

// Waits until a page has gone to where its form or link led. While it goes there, nothing can be asked of it.
export async function hasArrived(page, url) {
  await until(() => page.run((url) => location.href === url, url).catch(() => false), url);
  await isLoaded(page);
}

export function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

// Asks again until the answer is truthy, and returns it. For what neither a driver nor the shop reports.
export async function until(ask, what = String(ask)) {
  const end = Date.now() + DEADLINE_MS;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`not within a minute: ${what}`);
    await pause(25);
  }
}
