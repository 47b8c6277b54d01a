# All of node.json is attributes of the node.
env = node['listener']['services']['shop']['environment']

directory '/etc/shop' do
  mode '0750'
end

file '/etc/shop/shop.conf' do
  content "DATABASE_URL=#{env['DATABASE_URL']}\nPORT=#{env['PORT']}\n"
  mode '0640'
  sensitive true # its content does not appear in the output
end
