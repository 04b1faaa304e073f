# frozen_string_literal: true

# Says which headers of a request claim to be from Guestpass.
require_relative 'guestpass'

claims = lambda do |env|
  found = env.select { |name, _| name.include?('GUESTPASS') }
  found.transform_keys! { |name| name.delete_prefix('HTTP_').downcase.tr('_', '-') }
  [200, { 'Content-Type' => 'application/json' }, [JSON.generate(found)]]
end

public_claims = lambda do |env|
  status, headers, body = claims.call(env)
  [status, headers.merge('Cache-Control' => 'public, max-age=60'), body]
end

use Guestpass
map('/account') do
  use Guestpass, mode: :strict
  run claims
end
map('/public') { run public_claims }
run claims
