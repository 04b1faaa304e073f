// Says which headers of a request claim to be from Guestpass.
import { headers } from 'next/headers';

export async function claims(init) {
  const found = [...(await headers())].filter(([name]) => name.includes('guestpass'));
  return Response.json(Object.fromEntries(found), init);
}
