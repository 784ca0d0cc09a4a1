// What went wrong, for a person: what happened and what can be done.

// The text that kedge or the other side put beside the status: a Warning (RFC 3261 20.43) or a Reason (RFC 3326).
function said(message) {
  if (!message?.getHeader) return '';
  for (const name of ['Warning', 'Reason']) {
    if (/Q\.850\s*;\s*cause=16\b/i.test(message.getHeader(name) ?? '')) continue; // somebody hung up
    const text = /"((?:[^"\\]|\\.)*)"/.exec(message.getHeader(name) ?? '')?.[1];
    if (text) return text.replace(/\\(.)/g, '$1');
  }
  return '';
}

const STATUS = {
  401: 'The password is wrong.',
  403: 'The server does not allow this call.',
  404: 'There is nobody of this name or number.',
  407: 'The password is wrong.',
  408: 'Nobody answered.',
  410: 'There is nobody of this name or number any more.',
  480: 'They are not reachable just now.',
  481: 'The server no longer knows this call.',
  484: 'The number is not complete.',
  486: 'They are busy.',
  487: 'The call was given up before it was answered.',
  488: 'The two phones have no codec in common.',
  500: 'The server could not do it.',
  502: 'The other network does not answer.',
  503: 'The server takes no more calls just now.',
  504: 'The other network does not answer.',
  600: 'They are busy.',
  603: 'They declined the call.',
  606: 'The two phones have no codec in common.',
};

const CAUSE = {
  'User Denied Media Access': 'The browser does not let this page use the microphone. Allow it beside the address, and make sure that one is connected.',
  'Connection Error': 'The connection to the server broke.',
  'Request Timeout': 'The server does not answer.',
  'WebRTC Error': 'The browser does not understand what the other side offers.',
  'Bad Media Description': 'The browser does not understand what the other side offers.',
  'RTP Timeout': 'No more sound came from the other side.',
  'Incompatible SDP': 'The two phones have no codec in common.',
  'Missing SDP': 'The other side did not say how it wants to be sent sound.',
  Unavailable: 'They are not reachable just now.',
  Canceled: 'They gave up before you answered.',
  Expires: 'Nobody answered.',
  'No Answer': 'Nobody answered.',
  Terminated: '',
};

export function whyCallFailed({ cause, message, originator }) {
  const status = message?.status_code;
  if (originator === 'local' && (cause === 'Canceled' || cause === 'Rejected')) return ''; // they know
  const words = STATUS[status] ?? CAUSE[cause] ?? `The call failed: ${cause}${status ? ` (${status})` : ''}.`;
  const more = said(message);
  if (cause === 'Terminated' && /^the calle[re] hung up$/.test(more)) return ''; // the ordinary end
  if (more) return words ? `${words} “${more}”` : `The call was ended: “${more}”`;
  return words;
}

export function whyNotRegistered({ cause, response }) {
  const status = response?.status_code;
  if (cause === 'Authentication Error' || status === 401 || status === 403 || status === 407) {
    return 'Wrong user or password.';
  }
  if (status === 404) return 'The server does not know this user.';
  if (status === 503) return 'The server takes no more phones just now; this page tries again.';
  return { 'Request Timeout': 'The server does not answer.', 'Connection Error': 'The connection to the server broke.' }[cause] ??
    `The server refused: ${response?.reason_phrase ?? cause}${status ? ` (${status})` : ''}.`;
}

// The browser tells a page nothing of why a WebSocket failed. The page came from the same place, so whether that still answers
// tells the half of it.
export async function whyNoSocket(server) {
  try {
    await fetch(location.href, { method: 'HEAD', cache: 'no-store' });
  } catch {
    return 'The server is not reachable: it is down, this computer has no network, or its certificate is no longer accepted (reload the page).';
  }
  return `The server answers, but not on ${server}: no WebSocket there, or it does not let pages from ${location.origin} in (web.origins).`;
}
