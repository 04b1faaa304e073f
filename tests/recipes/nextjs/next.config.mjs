// The packages are two folders above, for all recipes.
export default { turbopack: { root: new URL('../..', import.meta.url).pathname } };
