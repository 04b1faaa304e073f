/** How long other tabs are waited for. One that is frozen would keep its lock for ever. */
const PATIENCE = 1000;

/** Does `work` while other tabs wait, or without them: it must come out right then as well. */
export function withLock<T>(name: string, work: (isAlone: boolean) => Promise<T>): Promise<T> {
    return new Promise((resolve) => {
        let done: Promise<T> | undefined;
        const begin = (lock?: Lock | null) => {
            resolve((done ||= work(!!lock)));
            clearTimeout(timer);
            return done.catch(() => {});
        };
        const waiting = new AbortController();
        const timer = setTimeout(() => {
            void begin();
            waiting.abort();
        }, PATIENCE);
        try {
            navigator.locks.request(name, waiting, begin).catch(() => begin());
        } catch {
            void begin();
        }
    });
}
