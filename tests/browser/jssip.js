// The telephone of contrib/webphone without its page, for tests.
import { Phone } from '../../contrib/webphone/phone.js';
import { pathOf } from '../../contrib/webphone/path.js';
import { test } from './test.js';

class JsSipPhone extends Phone {
  // dataChannel: offers one, too.
  constructor({ dataChannel = false, ...options }) {
    super(options);
    this.ua.on('newRTCSession', ({ session }) => {
      if (dataChannel) session.connection?.createDataChannel('test');
    });
  }

  path() {
    return pathOf(this.call?.session.connection);
  }

  get connection() {
    return this.call?.session.connection;
  }
}

test(JsSipPhone);
