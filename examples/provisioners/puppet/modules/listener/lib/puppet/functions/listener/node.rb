require 'json'

# What the agent wants of this run, node.json. Values are data: unlike Hiera's
# they may hold %{...}.
Puppet::Functions.create_function(:'listener::node') do
  dispatch :node do
    return_type 'Hash'
  end

  def node
    JSON.parse(File.read(ENV.fetch('LISTENER_NODE_JSON'), encoding: 'UTF-8'))
  end
end
